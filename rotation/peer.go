package rotation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// Peer is a replica as its roster record tells of it.
type Peer struct {
	Replica string
	Admin   string    // URL of its admin API; empty: it did not say
	Alone   bool      // no event of another replica reaches it, and none of its own reaches another
	At      time.Time // when it was heard of last, by the store's clock
}

// Peers are the other replicas that live, by name. A scope without nodes has their records, too.
func (c *Coordinator) Peers() []Peer { return c.list(func(o others) []Peer { return o.peers }) }

// Others are the other replicas that are not taken for dead, by name: those that live, and those that may, since the store was away until just now. While this replica cannot
// read the store it is those of before.
func (c *Coordinator) Others() []Peer { return c.list(func(o others) []Peer { return o.all }) }

func (c *Coordinator) list(of func(others) []Peer) []Peer {
	all := map[string]Peer{}
	for _, s := range c.scopes {
		s.mu.Lock()
		for _, p := range of(s.others) {
			if have, ok := all[p.Replica]; !ok || p.At.After(have.At) {
				all[p.Replica] = p
			}
		}
		s.mu.Unlock()
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Peer) int { return strings.Compare(a.Replica, b.Replica) })
}

// Living are the replicas that work on a store, by name, as their rosters tell; each is taken for alive until it has been silent for 30 s, also after a
// stop. Where a roster cannot be read, that takes the time until it is known whether its replica writes another.
func Living(ctx context.Context, s store.Store) ([]Peer, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]Peer{}
	unread := map[string]store.Rev{} // by key
	for key, err := range s.Keys(ctx, rosterPrefix+"/") {
		if err != nil {
			return nil, err
		}
		r, rev, err := readRoster(ctx, s, key)
		switch {
		case errors.Is(err, store.ErrNotExist):
			continue
		case errors.Is(err, errRoster):
			unread[key] = rev
			continue
		case err != nil:
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if r.peer.Replica, err = store.Segment(key); err != nil {
			return nil, err
		}
		if have, ok := all[r.peer.Replica]; now.Sub(r.peer.At) <= silentFor && (!ok || r.peer.At.After(have.At)) {
			all[r.peer.Replica] = r.peer
		}
	}
	for key, err := range rewritten(ctx, s, unread) {
		if err != nil {
			return nil, err
		}
		replica, err := store.Segment(key)
		if err != nil {
			return nil, err
		}
		if _, known := all[replica]; !known {
			all[replica] = Peer{Replica: replica, At: now}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Peer) int { return strings.Compare(a.Replica, b.Replica) }), nil
}

// rewritten waits for as long as a replica may be silent, and gives the rosters that were written meanwhile. It does not wait for none.
func rewritten(ctx context.Context, s store.Store, unread map[string]store.Rev) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if len(unread) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			yield("", ctx.Err())
			return
		case <-time.After(silentFor):
		}
		for key, before := range unread {
			_, rev, err := readRoster(ctx, s, key)
			if errors.Is(err, store.ErrNotExist) || rev == before {
				continue
			}
			if errors.Is(err, errRoster) {
				err = nil
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

// Unheard is how long ago this replica wrote its roster last. The others take it for dead, and its nodes for away, 30 s after it; for gone, a lease after
// it. 0: it has not written one yet, or has its store to itself.
func (c *Coordinator) Unheard() (d time.Duration) {
	for _, s := range c.scopes {
		s.mu.Lock()
		if s.cfg.Shared && !s.stored.IsZero() {
			d = max(d, s.clock().Sub(s.stored))
		}
		s.mu.Unlock()
	}
	return d
}

// Mute reports that this replica cannot tell the others of itself: it has just tried to write its rosters and could not, or the last one is older than a
// store that works lets it become.
func (c *Coordinator) Mute() bool {
	for _, s := range c.scopes {
		s.mu.Lock()
		well := !s.failed && (!s.cfg.Shared || s.clock().Sub(s.stored) < deafAfter)
		s.mu.Unlock()
		if well {
			return false
		}
	}
	return true
}

// ErrAlone: this replica cannot work beside another one on the same store.
var ErrAlone = errors.New("cannot work beside another replica")

// join lets no decision be made before it is known that this replica may work beside those whose rosters were read. Once its own roster is stored, those
// that come later see it. The caller holds turn.
func (s *scope) join() error {
	if !s.cfg.Shared || s.joined {
		return nil
	}
	if err := s.together(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = !s.stored.IsZero()
	return nil
}

// withdraw puts back the roster that the replica found when it started: what it had told of itself since keeps nobody else from working, and the nodes that
// it knew then are still waited for.
func (s *scope) withdraw() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !s.restored { // it told nothing yet
		return nil
	}
	return s.put(ctx, s.rosterKey(), s.earlier)
}

// together is an error if this replica and another one would work on the same store without waking each other.
func (s *scope) together() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.others.peers {
		whose := "this replica's events are"
		switch {
		case p.Alone:
			whose = "that replica's events are"
		case !s.cfg.Self.Alone:
			continue
		}
		return fmt.Errorf("%w: %s (%s) works on the same store, and %s embedded: neither would wake the other; start all of them with --events nats://… "+
			"(a replica that has ended is forgotten after %s)", ErrAlone, p.Replica, p.Admin, whose, silentFor)
	}
	return nil
}

// maxSkew is how far this machine's clock may be from the store's. Rollouts go by the store's; but a machine that is further off has leases, logs and
// certificates' ends wrong, and what else is wrong with it nobody knows.
const maxSkew = 30 * time.Second

// Skew is how far the store's clock is ahead of this machine's, as of the last look.
func (c *Coordinator) Skew() (skew time.Duration) {
	for _, s := range c.scopes {
		s.mu.Lock()
		if s.offset.Abs() > skew.Abs() {
			skew = s.offset
		}
		s.mu.Unlock()
	}
	return skew
}

// noteSkew tells when skewed's answer is another than before. The caller holds turn.
func (s *scope) noteSkew(skewed error) {
	if off := skewed != nil; off != s.off {
		s.off = off
		if off {
			s.cfg.Log.Error("rollouts are left to the other replicas", "scope", s.name, "err", skewed)
		} else {
			s.cfg.Log.Info("this machine's clock is right again, and rollouts are carried", "scope", s.name)
		}
	}
}

// skewed is an error if this machine's clock is too far off for rollouts.
func (s *scope) skewed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.Shared || s.offset.Abs() <= maxSkew {
		return nil
	}
	return refuse("this machine's clock is %s off the store's (at most %s): set it; until then the other replicas carry the rollouts", s.offset.Abs().Round(time.Second), maxSkew)
}
