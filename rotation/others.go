package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// others is what the rosters of the other replicas tell.
type others struct {
	lists []heard
	peers []Peer // those that were heard of within silentFor
	all   []Peer // those, and those that are not taken for dead, since they had no time to be heard
}

// readOthers reads the rosters of the other replicas, and which of them live.
func (s *scope) readOthers(ctx context.Context, now time.Time) (o others, _ error) {
	gap := s.deaf(now)
	listens := s.listens
	if gap || now.Before(listens) { // the store's clock may have been set back
		listens = now
	}
	dark := map[string]dark{}
	for key, err := range s.cfg.Store.Keys(ctx, store.Key(rosterPrefix, s.name)+"/") {
		if err != nil {
			return o, err
		}
		if key == s.rosterKey() {
			continue
		}
		name, err := store.Segment(key)
		if err != nil {
			return o, err
		}
		r, rev, err := readRoster(ctx, s.cfg.Store, key)
		switch {
		case errors.Is(err, store.ErrNotExist):
			continue
		case errors.Is(err, errRoster):
			d := s.inTheDark(key, rev, now, err)
			dark[key] = d
			r = rosterRecord{Peer{At: d.since}, []Member{unknown(name, d.since, true)}}
		case err != nil:
			return o, err
		}
		h := heard{r.peer.At, r.members}
		dead := h.dead(listens)
		if now.Sub(dead) > s.policy.NodeLease {
			_, _ = s.cfg.Store.Swap(ctx, key, rev, nil) // nobody on it can be live; whoever deletes it first is as good
			continue
		}
		if r.peer.Replica = name; err == nil && !now.After(dead) {
			o.all = append(o.all, r.peer)
			if now.Sub(h.at) <= silentFor {
				o.peers = append(o.peers, r.peer)
			}
		}
		if h.carry(now, listens); len(h.members) > 0 {
			o.lists = append(o.lists, h)
		}
	}
	from := s.listened
	if gap && !s.listens.IsZero() {
		from = time.Time{} // a whole lease anew: they may have gone to one that cannot write yet; but restarts, each with a gap before it, are to keep nobody alive
	}
	s.mu.Lock()
	if gap || s.err != nil || now.Before(s.listened) {
		s.roster.outage(from, now)
	}
	s.mu.Unlock()
	s.dark, s.listens, s.listened = dark, listens, now
	return o, nil
}

// deaf: the other replicas could not be heard for a while, since the store could not be read, or they could not write, as we could not. The caller holds turn.
func (s *scope) deaf(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.listened) > deafAfter || s.cfg.Shared && !s.stored.IsZero() && now.Sub(s.stored) > deafAfter
}

// dark is a roster that cannot be read.
type dark struct {
	rev   store.Rev
	since time.Time // when this revision was seen first: its replica lived then
	err   error
}

func (s *scope) inTheDark(key string, rev store.Rev, now time.Time, err error) dark {
	d, known := s.dark[key]
	if !known {
		s.cfg.Log.Error("a replica's roster cannot be read; its nodes count as such that hold nothing, until it writes another or is forgotten",
			"scope", s.name, "key", key, "err", err)
	}
	if !known || d.rev != rev {
		d = dark{rev, now, err}
	}
	return d
}

// unreadable says which rosters cannot be read. The caller holds turn.
func (s *scope) unreadable() (out []string) {
	for _, key := range slices.Sorted(maps.Keys(s.dark)) {
		out = append(out, fmt.Sprintf("%s cannot be read: %v", key, s.dark[key].err))
	}
	return out
}

// unknown stands for all nodes of a replica whose roster cannot be read: it may hold any generation.
func unknown(replica string, since time.Time, connected bool) Member {
	return Member{Node: "unknown nodes of replica " + replica, Nr: 1, Answered: true, Connected: connected, Since: since}
}
