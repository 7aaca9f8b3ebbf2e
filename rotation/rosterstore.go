package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// The owner prefixes of this package in the store.
const (
	ringPrefix   = "ring"   // ring/<scope>: the Rollout
	rosterPrefix = "roster" // roster/<scope>/<replica>
)

func (s *scope) rosterKey() string { return store.Key(rosterPrefix, s.name, s.cfg.Replica) }

// restore reads the roster that the replica wrote before it stopped, if that was not done yet.
func (s *scope) restore(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
		return s.restoreOnce(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// restoreOnce is restore for a caller that holds turn.
func (s *scope) restoreOnce(ctx context.Context) error {
	if s.restored {
		return nil
	}
	now, err := s.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	val, _, err := s.cfg.Store.Get(ctx, s.rosterKey())
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	if err == nil {
		r, err := decodeRoster(val)
		if err != nil {
			return fmt.Errorf("%s: %w", s.rosterKey(), err)
		}
		s.mu.Lock()
		s.roster.restore(r.members, now)
		s.mu.Unlock()
	}
	s.restored = true
	return nil
}

// store writes the roster if somebody joined, or if it is time.
func (s *scope) store(ctx context.Context, must bool) error {
	s.mu.Lock()
	age := s.clock().Sub(s.stored)
	complete := s.cfg.Shared && s.rollout.Phase != Steady && len(s.late) == 0 // the other replicas may be waiting for ours
	due := must || s.roster.dirty && (age >= flushAfter || complete) ||
		(s.cfg.Shared || len(s.roster.members) > 0) && age >= heartbeat
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.saveRoster(ctx)
}

func (s *scope) saveRoster(ctx context.Context) error {
	s.mu.Lock()
	s.saving = s.roster.list(s.saving[:0], true)
	now := s.clock()
	s.roster.dirty = false
	s.mu.Unlock()
	err := s.put(ctx, s.rosterKey(), rosterRecord{Peer{Admin: s.cfg.Self.Admin, Alone: s.cfg.Self.Alone, At: now}, s.saving}.encode())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.roster.dirty = true
		return err
	}
	s.stored = now
	return nil
}

// leave writes the roster a last time, so that the next start knows what the nodes hold.
func (s *scope) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.mu.Lock()
	dirty := s.roster.dirty
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := s.restore(ctx); err != nil {
		return err
	}
	return s.saveRoster(ctx)
}

// put writes a value that only this replica writes.
func (s *scope) put(ctx context.Context, key string, val []byte) error {
	for {
		_, rev, err := s.cfg.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = s.cfg.Store.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// readOthers reads the rosters of the other replicas, and which of them live. A silent replica is dead: its nodes are away since it was heard of last.
func (s *scope) readOthers(ctx context.Context, now time.Time) (lists []heard, peers []Peer, _ error) {
	for key, err := range s.cfg.Store.Keys(ctx, store.Key(rosterPrefix, s.name)+"/") {
		if err != nil {
			return nil, nil, err
		}
		if key == s.rosterKey() {
			continue
		}
		val, rev, err := s.cfg.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		r, err := decodeRoster(val)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", key, err)
		}
		ms, at := r.members, r.peer.At
		if now.Sub(at) <= silentFor {
			if r.peer.Replica, err = store.Segment(key); err != nil {
				return nil, nil, err
			}
			peers = append(peers, r.peer)
		} else {
			for i := range ms {
				if ms[i].Connected {
					ms[i].Connected, ms[i].Since = false, at
				}
			}
			if now.Sub(at) > silentFor+s.policy.NodeLease {
				_, _ = s.cfg.Store.Swap(ctx, key, rev, nil) // nobody on it can be live; whoever deletes it first is as good
				continue
			}
		}
		if len(ms) > 0 {
			lists = append(lists, heard{at, ms})
		}
	}
	return lists, peers, nil
}
