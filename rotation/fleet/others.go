package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// others is what the rosters of the other replicas tell.
type others struct {
	lists   []heard
	alive   []Peer // alive are those that were heard of within silentFor.
	notDead []Peer // notDead are those, and those that had no time to be heard.
	// there are the names of all that have a roster. Nodes of theirs may be live.
	there map[string]bool
}

// readOthers reads the rosters of the other replicas, and which of them live. lease is that of a
// node.
func (t *turn) readOthers(ctx context.Context, now time.Time, lease time.Duration) (o others, _ error) {
	gap := t.missedOthers(now)
	since := t.readingSince
	if gap || now.Before(since) { // the store's clock may have been set back
		since = now
	}
	damaged := map[string]damagedRoster{}
	o.there = map[string]bool{}
	for key, err := range t.cfg.Store.Keys(ctx, store.Rosters.Key(t.name)+"/") {
		if err != nil {
			return o, err
		}
		if key == t.rosterKey() {
			continue
		}
		name, err := store.Segment(key)
		if err != nil {
			return o, err
		}
		r, rev, err := readRoster(ctx, t.cfg.Store, key)
		switch {
		case errors.Is(err, store.ErrNotExist):
			continue
		case errors.Is(err, errRoster):
			d := t.noteDamaged(key, rev, now, err)
			damaged[key] = d
			r = rosterRecord{Peer{At: d.since}, []rotation.Member{unknownNodes(name, d.since, true)}}
		case err != nil:
			return o, err
		}
		if err == nil {
			for i := range r.members {
				r.members[i].Replica = name
			}
		}
		h := heard{r.peer.At, r.members}
		dead := h.dead(since)
		if now.Sub(dead) > lease {
			// Nobody on it can be live. It does not matter which replica deletes it first.
			_, _ = t.cfg.Store.Swap(ctx, key, rev, nil)
			continue
		}
		o.there[name] = true
		if r.peer.Replica = name; err == nil && !now.After(dead) {
			o.notDead = append(o.notDead, r.peer)
			if now.Sub(h.at) <= silentFor {
				o.alive = append(o.alive, r.peer)
			}
		}
		if h.carry(now, since); len(h.members) > 0 {
			o.lists = append(o.lists, h)
		}
	}
	t.forgiveGap(gap, now)
	t.damagedRosters, t.readingSince, t.othersRead = damaged, since, now
	return o, nil
}

// missedOthers reports that what the other replicas said could be missed for a while. The store
// could not be read, or they could not write to it, just as this replica could not.
func (t *turn) missedOthers(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(t.othersRead) > gapAfter || t.cfg.Shared && !t.stored.IsZero() && now.Sub(t.stored) > gapAfter
}

// forgiveGap counts the time in which nothing was heard of the others against no node that is
// away. After a gap it gives a whole lease anew, since nodes may have gone to a replica that
// cannot write yet. A restart, which has such a gap before it, only takes the time off, so that
// restarts keep nobody alive.
func (t *turn) forgiveGap(gap bool, now time.Time) {
	from := t.othersRead
	if gap && !t.readingSince.IsZero() {
		from = time.Time{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if gap || t.err != nil || now.Before(t.othersRead) {
		t.roster.outage(from, now)
	}
}

// damagedRoster is a roster that cannot be read.
type damagedRoster struct {
	rev   store.Rev
	since time.Time // since is when this revision was seen first. Its replica lived then.
	err   error
}

// noteDamaged returns what is known of a roster that cannot be read, and logs it when it is new.
func (t *turn) noteDamaged(key string, rev store.Rev, now time.Time, err error) damagedRoster {
	d, known := t.damagedRosters[key]
	if !known {
		t.cfg.Log.Error("a replica's roster cannot be read; its nodes count as such that hold nothing, "+
			"until it writes another or is forgotten", "scope", t.name, "key", key, "err", err)
	}
	if !known || d.rev != rev {
		d = damagedRoster{rev, now, err}
	}
	return d
}

// unreadableRosters names the rosters that cannot be read, and why.
func (t *turn) unreadableRosters() (out []string) {
	for _, key := range slices.Sorted(maps.Keys(t.damagedRosters)) {
		out = append(out, fmt.Sprintf("%s cannot be read: %v", key, t.damagedRosters[key].err))
	}
	return out
}

// unknownNodes stands for all nodes of a replica whose roster cannot be read. It may hold any
// generation.
func unknownNodes(replica string, since time.Time, connected bool) rotation.Member {
	return rotation.Member{
		Node: "unknown nodes of replica " + replica, Nr: 1, Answered: true, Connected: connected, Since: since,
	}
}
