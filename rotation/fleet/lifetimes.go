package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// lifetimes is the record lifetime/<scope>. It says, by replica, how long tickets are good for that
// the replica's nodes issue. Three rules make it true whoever stops, starts or changes its
// configuration:
//
//   - A longer lifetime is written there before a node is told of it.
//   - A shorter one reaches nodes at once. It is written a lease later, since nodes take it when they
//     have the next listener, and only when the rollout's record has noted the longer one for each
//     key that made such tickets.
//   - The same goes for the entry of a replica that has no roster any more, before it is removed.
//
// So a replica that starts with another ticket_lifetime finds the one that it had, and each replica
// knows the longest one that is in force. A field that this version does not know is kept.
type lifetimes struct {
	of    map[string]time.Duration
	rev   store.Rev
	later map[string]json.RawMessage
}

// lifetimesField is the field of the record that this version knows, in nanoseconds.
const lifetimesField = "ticket_lifetimes"

func (s *scope) lifetimesKey() string { return store.Lifetimes.Key(s.name) }

func decodeLifetimes(val []byte, rev store.Rev) (l lifetimes, err error) {
	l = lifetimes{of: map[string]time.Duration{}, rev: rev}
	if len(val) == 0 {
		return l, nil
	}
	if err := json.Unmarshal(val, &l.later); err != nil {
		return lifetimes{of: l.of, rev: rev}, err
	}
	if b, ok := l.later[lifetimesField]; ok {
		if err := json.Unmarshal(b, &l.of); err != nil || l.of == nil {
			return lifetimes{of: map[string]time.Duration{}, rev: rev}, errors.Join(errors.New("no lifetimes"), err)
		}
	}
	maps.DeleteFunc(l.of, func(_ string, d time.Duration) bool { return d <= 0 })
	for replica, d := range l.of {
		l.of[replica] = min(d, rotation.MaxTicketLifetime)
	}
	return l, nil
}

func (l lifetimes) encode() ([]byte, error) {
	out := maps.Clone(l.later)
	if out == nil {
		out = map[string]json.RawMessage{}
	}
	var err error
	if out[lifetimesField], err = json.Marshal(l.of); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// all returns the lifetimes that are in force.
func (l lifetimes) all() []time.Duration { return slices.Collect(maps.Values(l.of)) }

// readLifetimes reads the record. One that is damaged is begun anew, since each replica writes its
// own entry again.
func (t *turn) readLifetimes(ctx context.Context) (lifetimes, error) {
	val, rev, err := t.cfg.Store.Get(ctx, t.lifetimesKey())
	if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed) {
		return lifetimes{}, err
	}
	l, fault := decodeLifetimes(val, rev)
	if errors.Is(err, store.ErrSealed) {
		fault = err
	}
	if fault != nil {
		t.cfg.Log.Warn("which ticket_lifetime is in force at each replica cannot be read, and is written anew",
			"scope", t.name, "key", t.lifetimesKey(), "err", fault)
	}
	return l, nil
}

// settleLifetime writes this replica's entry, and has its nodes told of a ticket_lifetime that is
// in force. It comes after the rollout was stored, and before anything is sent. An error of the
// store changes nothing: what nodes were told stays, and the next look tries again.
func (t *turn) settleLifetime(ctx context.Context, a *attempt) error {
	t.settle(ctx, a, a.next)
	return nil
}

// settle is settleLifetime for the rollout that stands in the store.
func (t *turn) settle(ctx context.Context, a *attempt, stored rotation.Rollout) {
	want, noted := a.p.TicketLifetime, len(stored.Keys) > 0 && stored.Notes(a.p)
	if next := t.agreed(a.lifetimes, want, a.now, a.p.NodeLease); noted && !maps.Equal(next, a.lifetimes.of) {
		l := a.lifetimes
		l.of = next
		val, err := l.encode()
		if err == nil {
			l.rev, err = t.cfg.Store.Swap(ctx, t.lifetimesKey(), l.rev, val)
		}
		switch {
		case err == nil:
			a.lifetimes = l
		case errors.Is(err, store.ErrConflict):
			t.lookSoon()
		}
	}
	t.tell(a.lifetimes, want, noted)
}

// agreed returns the entries as they are to be: this replica's, and those of the replicas that have
// a roster.
func (t *turn) agreed(l lifetimes, want time.Duration, now time.Time, lease time.Duration) map[string]time.Duration {
	next := maps.Clone(l.of)
	if mine := l.of[t.cfg.Replica]; mine <= want {
		t.shorterAt = time.Time{}
	} else if t.shorterAt.IsZero() || now.Before(t.shorterAt) {
		if t.shorterAt.IsZero() {
			t.shorterAt = now.Add(lease)
		}
		want = mine
	}
	t.mu.Lock()
	maps.DeleteFunc(next, func(replica string, _ time.Duration) bool { return !t.others.there[replica] })
	t.mu.Unlock()
	next[t.cfg.Replica] = want
	return next
}

// tell sets how long tickets are good for that nodes issue from now on. noted says that the
// rollout's record has it. At a start nodes are told what is in force already, if that is shorter.
func (t *turn) tell(l lifetimes, want time.Duration, noted bool) {
	t.mu.Lock()
	want = min(want, t.policy.TicketLifetime)
	mine, has := l.of[t.cfg.Replica]
	before := t.told
	switch {
	case t.told >= want, has && mine >= want && noted:
		t.told = want
	case t.told != 0:
	case has:
		t.told = min(want, mine)
	case len(l.of) > 0:
		t.told = min(want, slices.Max(l.all()))
	default: // no replica of this version has run on the store
		t.told = want
	}
	changed := t.told != before
	t.inForce = l.of
	t.mu.Unlock()
	if changed && t.cfg.Lifetime != nil {
		t.cfg.Lifetime(t.name)
	}
}

// TicketLifetime returns how long a ticket is good for that a node of this replica issues now. A
// ticket_lifetime that is longer than before waits until the store holds it. It is 0 before
// [Coordinator.Ready], and for a scope that is not configured.
func (c *Coordinator) TicketLifetime(scope string) time.Duration {
	s := c.scopes[scope]
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}
