package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// Peer is a replica as its roster record shows it.
type Peer struct {
	Replica string
	Admin   string // Admin is the URL of its admin API. It is empty if the replica did not say.
	// Alone says that no event of another replica reaches it, and none of its own another.
	Alone bool
	At    time.Time // At is when it was heard of last, by the store's clock.
}

// Peers returns the other replicas that live, by name. A scope without nodes has their records,
// too.
func (c *Coordinator) Peers() []Peer { return c.list(func(o others) []Peer { return o.alive }) }

// notDead returns the other replicas that are not taken for dead, by name. These are those that
// live, and those that may live, since the store was away until just now. While this replica
// cannot read the store they are those of before.
func (c *Coordinator) notDead() []Peer { return c.list(func(o others) []Peer { return o.notDead }) }

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
	return slices.SortedFunc(maps.Values(all), byReplica)
}

func byReplica(a, b Peer) int { return strings.Compare(a.Replica, b.Replica) }

// AskPeers calls ask for each other replica that lives, at once, and returns those that failed,
// each with its error. Calls of ask run at the same time.
func (c *Coordinator) AskPeers(ctx context.Context, ask func(context.Context, Peer) error) (failed []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range c.Peers() {
		wg.Go(func() {
			if err := ask(ctx, p); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Sprintf("%s: %v", p.Replica, err))
			}
		})
	}
	wg.Wait()
	return failed
}

// Living returns the replicas that work on a store, by name, as their rosters tell. Each is taken
// for alive until it has been silent for 30 s, also after a stop. If a roster cannot be read,
// Living waits until it is known whether its replica writes another.
func Living(ctx context.Context, s store.Store) ([]Peer, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]Peer{}
	unread := map[string]store.Rev{} // by key
	for key, err := range s.Keys(ctx, store.Rosters.All()) {
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
	return slices.SortedFunc(maps.Values(all), byReplica), nil
}

// rewritten waits for as long as a replica may be silent, and gives those of the rosters that were
// written meanwhile. It does not wait if there are none.
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

// unheard returns how long ago this replica wrote its roster last. The others take it for dead,
// and its nodes for away, when that is silentFor. It is 0 if the replica has not written one yet,
// or has its store to itself.
func (c *Coordinator) unheard() (d time.Duration) {
	for _, s := range c.scopes {
		s.mu.Lock()
		if s.cfg.Shared && !s.stored.IsZero() {
			d = max(d, s.clock().Sub(s.stored))
		}
		s.mu.Unlock()
	}
	return d
}

// Mute reports that this replica cannot let the others know of it. It has just tried to write its
// rosters and could not, or the last one is older than a store that works lets it become.
func (c *Coordinator) Mute() bool {
	for _, s := range c.scopes {
		s.mu.Lock()
		well := !s.failed && (!s.cfg.Shared || s.clock().Sub(s.stored) < gapAfter)
		s.mu.Unlock()
		if well {
			return false
		}
	}
	return true
}

// checkCompanions lets no decision be made before it is known that this replica may work beside
// those whose rosters were read. Once its own roster is stored, those that come later see it.
func (t *turn) checkCompanions(context.Context, *attempt) error {
	if !t.cfg.Shared || t.mayDecide {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.deafTo(t.others.alive); err != nil {
		return err
	}
	t.mayDecide = !t.stored.IsZero()
	return nil
}

// deafTo returns an error if this replica and one of peers would work on one store without waking
// each other.
func (s *scope) deafTo(peers []Peer) error {
	for _, p := range peers {
		whose := "this replica's events are"
		switch {
		case p.Alone:
			whose = "that replica's events are"
		case !s.cfg.Self.Alone:
			continue
		}
		return fmt.Errorf("%w: %s (%s) works on the same store, and %s embedded: neither would wake the other; "+
			"start all of them with --events nats://… (a replica that has ended is forgotten after %s)",
			errAlone, p.Replica, p.Admin, whose, silentFor)
	}
	return nil
}
