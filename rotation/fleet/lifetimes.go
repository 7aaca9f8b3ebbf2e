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
// An entry may be raised at any time. So that of a replica that was taken for dead, and is back, is
// written before its nodes are sent a ring, or they are told of a shorter one.
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
	words := ""
	if fault != nil {
		words = fault.Error()
	}
	if words != t.lifetimesFault && fault != nil { // it is read at each look
		t.cfg.Log.Warn("which ticket_lifetime is in force at each replica cannot be read, and is written anew",
			"scope", t.name, "key", t.lifetimesKey(), "err", fault)
	}
	t.lifetimesFault = words
	return l, nil
}

// settleLifetime writes this replica's entry, and has its nodes told of a ticket_lifetime that is
// in force. It comes after the rollout was stored, and before anything is sent. An error of the
// store changes nothing: what nodes were told stays while the entry does, and the next look tries
// again.
func (t *turn) settleLifetime(ctx context.Context, a *attempt) error {
	t.settle(ctx, a, a.next)
	return nil
}

// settle is settleLifetime for the rollout that stands in the store. It tries again if
// another replica has written its entry meanwhile. After a failure nodes may be told of a shorter
// lifetime.
func (t *turn) settle(ctx context.Context, a *attempt, stored rotation.Rollout) {
	want := a.p.TicketLifetime
	for range settleTries {
		noted := len(stored.Keys) > 0 && stored.Notes(a.p)
		l := a.lifetimes
		l.of = t.agreed(a.lifetimes, want, noted, a.now, a.p.NodeLease)
		var err error
		if !maps.Equal(l.of, a.lifetimes.of) {
			var val []byte
			if val, err = l.encode(); err == nil {
				l.rev, err = t.cfg.Store.Swap(ctx, t.lifetimesKey(), l.rev, val)
			}
		}
		if err == nil {
			a.lifetimes = l
		}
		if errors.Is(err, store.ErrConflict) {
			if l, err = t.readLifetimes(ctx); err == nil {
				a.lifetimes, a.p = l, a.p.Beside(l.all()...)
				continue
			}
		}
		t.tell(a.lifetimes, want, noted)
		return
	}
	t.tell(a.lifetimes, want, false)
	t.lookSoon()
}

// settleTries bounds how often settle writes an entry at one look.
const settleTries = 5

// agreed returns the entries as they are to be: this replica's, and those of the replicas that have
// a roster. This replica's is never below what its nodes were told. If the others took it for dead
// they have removed it. It is written again although the rollout's record has not noted it: only
// what makes an entry shorter waits for that.
func (t *turn) agreed(l lifetimes, want time.Duration, noted bool, now time.Time, lease time.Duration,
) map[string]time.Duration {
	mine := l.of[t.cfg.Replica]
	want = t.shortened(mine, want, now, lease)
	next := maps.Clone(l.of)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !noted {
		if mine < t.told {
			next[t.cfg.Replica] = t.told
		}
		return next
	}
	maps.DeleteFunc(next, func(replica string, _ time.Duration) bool { return !t.others.there[replica] })
	next[t.cfg.Replica] = max(want, t.told)
	return next
}

// shorter is a shortening of this replica's entry that waits until nodes have the next listener.
type shorter struct {
	at time.Time // at is when the entry may be written, or zero if none waits.
	// to is the longest ticket_lifetime that was in force since the wait began.
	to time.Duration
}

// shortened returns what this replica's entry is to be, which is want, or for a lease still what it
// was. A ticket_lifetime that is shortened further meanwhile waits for a lease of its own.
func (t *turn) shortened(mine, want time.Duration, now time.Time, lease time.Duration) time.Duration {
	if mine <= want {
		t.shorter = shorter{}
		return want
	}
	if t.shorter.at.IsZero() {
		t.shorter = shorter{at: now.Add(lease), to: want}
	}
	t.shorter.to = max(t.shorter.to, want)
	if now.Before(t.shorter.at) {
		return mine
	}
	to := t.shorter.to
	t.shorter = shorter{}
	if want < to {
		t.shorter = shorter{at: now.Add(lease), to: want}
	}
	return to
}

// tell sets how long tickets are good for that nodes issue from now on. noted says that the
// rollout's record has it. Without that nodes are told no more than is in force already, at a start
// too, and when the entry of this replica is gone.
func (t *turn) tell(l lifetimes, want time.Duration, noted bool) {
	t.mu.Lock()
	want = min(want, t.policy.TicketLifetime)
	mine, has := l.of[t.cfg.Replica]
	before := t.told
	most := want
	if before != 0 {
		most = min(want, before)
	}
	switch {
	case has && mine >= want && noted:
		t.told = want
	case has:
		t.told = min(most, mine)
	case len(l.of) > 0:
		t.told = min(most, slices.Max(l.all()))
	default: // no replica of this version has run on the store
		t.told = most
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
