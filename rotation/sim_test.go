package rotation

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// The simulation runs thousands of small fleets against Next and the roster, and checks P1 after each step: every ticket that a
// live node made less than ticket_lifetime ago is decrypted by every other live node. It knows what the nodes really hold; the
// control plane knows only what they answered, late.

// world is one fleet.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	policy  Policy
	now     time.Time
	rollout Rollout
	roster  *roster
	nodes   []*simNode
	streams uint64
	rings   map[uint64]keysource.Ring
	next    func(Rollout, Policy, Tally, time.Time, func() keysource.TicketKey) (Rollout, bool)
	made    byte
	burnt   bool // a burn refuses tickets, that is what it is for
	skipped bool // laggards were left behind, after MaxKeyAge and by name
}

type simNode struct {
	name      string
	stream    uint64 // 0: not connected
	holds     uint64 // generation; 0: nothing
	sent      uint64 // on its way, applied at arrives
	acks      []simAck
	at        time.Time // when sent is applied
	away      time.Time // since when it is not connected
	refuse    int       // how many more rings it refuses
	returning bool      // was away beyond its lease and has not got the present ring yet
	used      map[keysource.TicketKey]time.Time
}

type simAck struct {
	at         time.Time
	generation uint64
	refused    bool
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)),
		policy: Policy{Period: 60 * time.Second, TicketLifetime: 120 * time.Second, MaxKeyAge: 20 * time.Minute, Quorum: 1, RefuseGrace: 30 * time.Second, NodeLease: 75 * time.Second, ClientCerts: "none"},
		now:    time.Unix(1_700_000_000, 0), rollout: Rollout{Scope: "default"}, roster: newRoster(), rings: map[uint64]keysource.Ring{}, next: Rollout.Next,
	}
	for i := range 1 + w.rnd.IntN(5) {
		w.nodes = append(w.nodes, &simNode{name: fmt.Sprintf("n%d", i), used: map[keysource.TicketKey]time.Time{}})
	}
	return w
}

func (w *world) key() (k keysource.TicketKey) {
	w.made++
	for i := range k {
		k[i] = byte(w.rnd.Uint32())
	}
	return k
}

func (w *world) decide() {
	t := Tally{Members: w.roster.snapshot(false), Highest: w.roster.highest}
	r, changed := w.next(w.rollout, w.policy, t, w.now, w.key)
	if changed {
		for _, l := range r.History[max(0, len(r.History)-int(r.Lines-w.rollout.Lines)):] {
			w.skipped = w.skipped || len(l.LeftBehind) > 0
		}
		// what is stored must be what is decided
		b, err := encodeRollout(r)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.rollout, err = decodeRollout("default", b); err != nil {
			w.t.Fatalf("%v\n%+v", err, r.History)
		}
		w.rings[w.rollout.Generation] = w.rollout.Ring()
		if err := w.rollout.Ring().Check(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// look is what scope.look does, with a store that never fails.
func (w *world) look() {
	asked := w.roster.letIn(w.rollout.Generation)
	for _, e := range asked {
		e.ready = true
	}
	w.decide()
	for _, n := range w.nodes { // send the present ring to everybody who may have it
		e := w.roster.streams[n.stream]
		if n.stream == 0 || e == nil || !e.ready || n.sent == w.rollout.Generation || n.holds == w.rollout.Generation && n.sent == 0 {
			continue
		}
		if e.Refused == w.rollout.Generation { // parked
			continue
		}
		n.sent, n.at = w.rollout.Generation, w.now.Add(w.delay())
	}
}

func (w *world) delay() time.Duration {
	switch w.rnd.IntN(10) {
	case 0:
		return time.Duration(w.rnd.IntN(8000)) * time.Millisecond
	case 1, 2:
		return 0
	}
	return time.Duration(w.rnd.IntN(50)) * time.Millisecond
}

func (w *world) connect(n *simNode) {
	w.streams++
	n.stream, n.sent, n.acks = w.streams, 0, nil
	held := ""
	if n.holds != 0 {
		held = w.rings[n.holds].Version()
	}
	w.roster.join(n.stream, n.name, held, w.rollout.Ring(), w.now)
}

func (w *world) disconnect(n *simNode) {
	w.roster.closed(n.stream, w.now)
	n.stream, n.sent, n.acks, n.away = 0, 0, nil, w.now
}

// act lets nodes apply what arrived, make a ticket, and tell the control plane.
func (w *world) act() {
	for _, n := range w.nodes {
		if n.stream != 0 && n.sent != 0 && !n.at.After(w.now) {
			ack := simAck{at: w.now.Add(w.delay()), generation: n.sent}
			if n.refuse > 0 && n.holds != 0 {
				n.refuse--
				ack.refused = true
			} else {
				n.holds = n.sent
				n.returning = n.returning && n.holds != w.rollout.Generation
			}
			n.sent = 0
			n.acks = append(n.acks, ack)
		}
		for len(n.acks) > 0 && !n.acks[0].at.After(w.now) {
			if a := n.acks[0]; a.refused {
				w.roster.refused(n.stream, a.generation, "no")
			} else {
				w.roster.accepted(n.stream, a.generation)
			}
			n.acks = n.acks[1:]
		}
		if w.live(n) {
			n.used[w.rings[n.holds].Keys[0]] = w.now
		}
	}
}

// live as P1 says it: it serves, and is connected or away for less than the lease.
func (w *world) live(n *simNode) bool {
	return n.holds != 0 && !n.returning && (n.stream != 0 || w.now.Sub(n.away) < w.policy.NodeLease)
}

// check is P1. A node that was beyond its lease is not live until it has the present ring again.
func (w *world) check() error {
	for _, from := range w.nodes {
		for key, at := range from.used {
			if w.now.Sub(at) >= w.policy.TicketLifetime {
				delete(from.used, key)
				continue
			}
			for _, to := range w.nodes {
				if !w.live(to) {
					continue
				}
				held := false
				for _, k := range w.rings[to.holds].Keys {
					held = held || k == key
				}
				if !held {
					return fmt.Errorf("a ticket of %s, made %s ago with %s, is refused by %s, which holds g%d (phase %s g%d)",
						from.name, w.now.Sub(at), key.ID(), to.name, to.holds, w.rollout.Phase, w.rollout.Generation)
				}
			}
		}
	}
	return nil
}

// play runs one fleet through a random story and returns the first breach of P1, and how many rotations ended.
func (w *world) play(steps int) error {
	for range steps {
		n := w.nodes[w.rnd.IntN(len(w.nodes))]
		switch w.rnd.IntN(40) {
		case 0, 1:
			if n.stream == 0 {
				if n.holds != 0 && !w.live(n) { // it is live again once it has the present ring
					n.returning = true
				}
				w.connect(n)
			}
		case 2:
			if n.stream != 0 {
				w.disconnect(n)
			}
		case 3: // moves: the old stream ends after the new one came
			if n.stream != 0 {
				old := n.stream
				w.connect(n)
				w.roster.closed(old, w.now)
			}
		case 4: // the process restarts and holds nothing
			if n.stream != 0 {
				w.disconnect(n)
			}
			n.holds, n.returning = 0, false
		case 5:
			n.refuse = 1 + w.rnd.IntN(2)
		case 6: // the control plane restarts: all streams end, the roster is what was stored
			stored, _, err := decodeRoster(encodeRoster(w.roster.snapshot(true), w.now))
			if err != nil {
				return err
			}
			for _, n := range w.nodes {
				if n.stream != 0 {
					n.stream, n.sent, n.acks, n.away = 0, 0, nil, w.now
				}
			}
			w.roster = newRoster()
			w.roster.restore(stored, w.now)
		case 7:
			if r, _, err := w.rollout.Ask(Request{By: "sim"}); err == nil && len(w.rollout.Keys) > 0 {
				w.rollout = r
			}
		case 8:
			if len(w.rollout.Keys) > 0 && w.rnd.IntN(4) == 0 {
				t := Tally{Members: w.roster.snapshot(false)}
				if r, _, err := w.rollout.Rollback("sim", "", w.policy, t, w.now, w.key()); err == nil {
					w.rollout = r
					w.rings[r.Generation] = r.Ring()
				}
			}
		}
		w.roster.expire(w.policy, w.now)
		w.look()
		w.act()
		if err := w.check(); err != nil && !w.skipped && !w.burnt {
			return err
		}
		if w.rnd.IntN(3) == 0 {
			w.now = w.now.Add(time.Duration(w.rnd.IntN(10_000)) * time.Millisecond)
		} else {
			w.now = w.now.Add(time.Duration(w.rnd.IntN(40)) * time.Millisecond)
		}
	}
	return nil
}

const fleets = 2000

func TestNoLiveTicketIsRefusedInAnyFleet(t *testing.T) {
	ended := uint64(0)
	for seed := range uint64(fleets) {
		w := newWorld(t, seed)
		if err := w.play(400); err != nil {
			for _, l := range w.rollout.History[max(0, len(w.rollout.History)-8):] {
				t.Logf("%s %s g%d by %s: %s; left behind %v", l.At.Format("15:04:05.000"), l.What, l.Generation, l.By, l.Why, l.LeftBehind)
			}
			for _, n := range w.nodes {
				t.Logf("%+v used %d", *n, len(n.used))
			}
			for _, m := range w.roster.snapshot(true) {
				t.Logf("%+v", m)
			}
			t.Fatalf("fleet %d: %v at %s", seed, err, w.now.Format("15:04:05.000"))
		}
		ended += w.rollout.Ended
	}
	if per := float64(ended) / float64(fleets); per < 1 {
		t.Fatalf("only %.2f rotations ended per fleet: the simulation shows nothing", per)
	} else {
		t.Logf("%d rotations ended in %d fleets", ended, fleets)
	}
}

// Each mutant breaks one rule; the simulation must notice, or it guards nothing.
func TestTheSimulationHasTeeth(t *testing.T) {
	type decision = func(Rollout, Policy, Tally, time.Time, func() keysource.TicketKey) (Rollout, bool)
	mutants := map[string]decision{
		"promote without quorum": func(r Rollout, p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) (Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			if n.Phase == Distributing {
				n.lead(n.next(), now)
				n.enter(Promoting, now)
				return n, true
			}
			return n, changed
		},
		"skip the second quorum": func(r Rollout, p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) (Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			if n.Phase == Promoting {
				n.end(now)
				changed = true
			}
			for i := range n.Keys { // the drain begins with the promotion, whoever has accepted it
				if k := &n.Keys[i]; k.Demoted != 0 {
					changed = changed || !k.Idle.Equal(k.Left)
					k.Idle = k.Left
				}
			}
			return n, changed
		},
		"retire at once": func(r Rollout, p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) (Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			for i := len(n.Keys) - 1; i > 0; i-- {
				if n.Phase == Steady && n.Keys[i].Demoted != 0 {
					n.drop(i)
					changed = true
				}
			}
			return n, changed
		},
		"one phase only": func(r Rollout, p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) (Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			if r.Phase == Steady && n.Phase == Distributing {
				n.Generation-- // the ring that holds the new key for decryption only is never sent
				n.lead(n.next(), now)
				n.enter(Promoting, now)
			}
			return n, changed
		},
		"forget the away": func(r Rollout, p Policy, t Tally, now time.Time, fresh func() keysource.TicketKey) (Rollout, bool) {
			var here []Member
			for _, m := range t.Members {
				if m.Connected {
					here = append(here, m)
				}
			}
			t.Members = here
			return r.Next(p, t, now, fresh)
		},
	}
	for name, next := range mutants {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(fleets) {
				w := newWorld(t, seed)
				w.next = next
				if err := w.play(400); err != nil {
					t.Logf("noticed in fleet %d: %v", seed, err)
					return
				}
			}
			t.Fatalf("%d fleets did not notice", fleets)
		})
	}
}
