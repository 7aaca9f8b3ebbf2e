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

// readOthers reads the rosters of the other replicas, and which of them live.
func (s *scope) readOthers(ctx context.Context, now time.Time) (lists []heard, peers []Peer, _ error) {
	if s.cfg.Shared && now.Sub(s.listened) > deafAfter {
		s.listens = now
		s.mu.Lock()
		s.roster.outage(now)
		s.mu.Unlock()
	}
	s.listened = now
	dark := map[string]dark{}
	for key, err := range s.cfg.Store.Keys(ctx, store.Key(rosterPrefix, s.name)+"/") {
		if err != nil {
			return nil, nil, err
		}
		if key == s.rosterKey() {
			continue
		}
		name, err := store.Segment(key)
		if err != nil {
			return nil, nil, err
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
			return nil, nil, err
		}
		if now.Sub(latest(r.peer.At, s.listens)) > silentFor+s.policy.NodeLease {
			_, _ = s.cfg.Store.Swap(ctx, key, rev, nil) // nobody on it can be live; whoever deletes it first is as good
			continue
		}
		if err == nil && now.Sub(r.peer.At) <= silentFor {
			r.peer.Replica = name
			peers = append(peers, r.peer)
		}
		if h := (heard{r.peer.At, r.members}); len(h.members) > 0 {
			h.carry(now, s.listens)
			lists = append(lists, h)
		}
	}
	s.dark = dark
	return lists, peers, nil
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
