package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// play runs one fleet through a random story and returns the first breach of a promise.
func (w *world) play(steps int) error {
	for range steps {
		w.happen(w.nodes[w.rnd.IntN(len(w.nodes))], w.replicas[w.rnd.IntN(len(w.replicas))])
		for _, c := range w.replicas {
			if c.cut {
				// it serves what it has
			} else if w.rnd.IntN(3) == 0 { // stops in the middle
				w.advance(c)
			} else {
				w.look(c)
			}
			w.deliver()
		}
		w.act()
		if err := w.check(); err != nil && !w.skipped {
			return err
		}
		if w.rnd.IntN(3) == 0 {
			w.pass(time.Duration(w.rnd.IntN(10_000)) * time.Millisecond)
		} else {
			w.pass(time.Duration(w.rnd.IntN(40)) * time.Millisecond)
		}
	}
	return nil
}

// happen is what the world does to one node, or to one replica.
func (w *world) happen(n *simNode, c *simReplica) {
	w.settleCommand()
	switch w.rnd.IntN(40) {
	case 0, 1:
		if n.stream == 0 {
			w.connect(n, c)
		}
	case 2:
		if n.stream != 0 {
			w.disconnect(n)
		}
	case 3:
		if n.stream != 0 {
			w.move(n)
		}
	case 4: // the process restarts and holds nothing
		if n.stream != 0 {
			w.disconnect(n)
		}
		n.holds, n.partly, n.stored, n.ill = 0, 0, 0, false
	case 5:
		n.refuse = 1 + w.rnd.IntN(2)
	case 6:
		if w.rnd.IntN(3) == 0 && !c.cut {
			w.restart(c)
		}
	case 7:
		if !c.cut {
			w.ask(c)
		}
	case 8:
		w.streams++
		r := &simRogue{node: n.name, at: c, stream: w.streams}
		if w.rnd.IntN(4) > 0 {
			r.answers = w.now.Add(w.delay())
		}
		w.rogues = append(w.rogues, r)
		c.roster.enter(Asked{Stream: r.stream, Node: n.name, Group: w.group}, c.ring, w.now)
	case 9:
		for _, end := range w.closing {
			end()
		}
		w.closing = nil
	case 10:
		if w.rnd.IntN(3) == 0 && !c.cut {
			w.stampede(c)
		}
	case 11:
		w.sever(c, !c.cut && w.rnd.IntN(3) == 0)
	case 13:
		n.ill = !n.ill
	case 12:
		cut := !c.cut && w.rnd.IntN(3) == 0
		for _, c := range w.replicas {
			w.sever(c, cut)
		}
	}
}

// stampede: every lease has ended, c is about to do something to the empty fleet, and now all come
// at once.
func (w *world) stampede(c *simReplica) {
	for _, n := range w.nodes {
		if n.stream != 0 {
			w.disconnect(n)
		}
	}
	w.now = w.now.Add(w.policy.NodeLease)
	w.act()
	for _, c := range w.replicas {
		w.look(c)
		w.look(c) // the first may have been in the middle of one
	}
	if w.rnd.IntN(2) == 0 {
		w.ask(c)
	} else {
		w.now = w.now.Add(w.policy.Period)
		for c.step < 2 {
			w.advance(c)
		}
	}
	for _, n := range w.nodes {
		w.connect(n, w.replicas[w.rnd.IntN(len(w.replicas))])
	}
}

func fleets() uint64 {
	if raced {
		return 60
	}
	return 1200
}

func TestNoLiveTicketIsRefusedInAnyFleet(t *testing.T) {
	ended := uint64(0)
	for seed := range fleets() {
		w := newWorld(t, seed)
		if err := w.play(300); err != nil {
			w.tell()
			t.Fatalf("fleet %d: %v at %s", seed, err, w.now.Format("15:04:05.000"))
		}
		ended += w.stored.Ended
	}
	if per := float64(ended) / float64(fleets()); per < 1 {
		t.Fatalf("only %.2f rotations ended per fleet: the simulation shows nothing", per)
	}
	t.Logf("%d rotations ended in %d fleets", ended, fleets())
}

func (w *world) tell() {
	for _, l := range w.stored.History[max(0, len(w.stored.History)-8):] {
		w.t.Logf("%s %s g%d by %s: %s; left behind %v",
			l.At.Format("15:04:05.000"), l.What, l.Generation, l.By, l.Why, l.LeftBehind)
	}
	for _, n := range w.nodes {
		w.t.Logf("%s: stream %d holds g%d sent g%d away %s returning %v excused %v",
			n.name, n.stream, n.holds, n.sent, n.away.Format("15:04:05"), n.returning, n.excused)
	}
	for i, c := range w.replicas {
		w.t.Logf("replica %d at step %d with g%d", i, c.step, c.ring.Generation)
		for _, m := range c.roster.sorted(true) {
			w.t.Logf("  %+v", m)
		}
	}
}

// mutants break one rule each.
var mutants = map[string]func(*world){
	"promote without quorum": func(w *world) {
		w.next = func(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time,
			fresh newKey) (rotation.Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			if n.Phase == rotation.Distributing {
				promote(&n, now)
				return n, true
			}
			return n, changed
		}
	},
	"skip the second quorum": func(w *world) {
		w.next = func(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time,
			fresh newKey) (rotation.Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			if n.Phase == rotation.Promoting {
				end(&n, now)
				changed = true
			}
			for i := range n.Keys { // the drain begins with the promotion, whoever has accepted it
				if k := &n.Keys[i]; k.Demoted != 0 && !k.UnusedSince.Equal(k.DemotedAt) {
					changed, k.UnusedSince = true, k.DemotedAt
				}
			}
			return n, changed && !same(r, n)
		}
	},
	"retire at once": func(w *world) {
		w.next = func(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time,
			fresh newKey) (rotation.Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			for i := len(n.Keys) - 1; i > 0; i-- {
				if n.Phase == rotation.Steady && n.Keys[i].Demoted != 0 {
					drop(&n, i)
					changed = true
				}
			}
			return n, changed
		}
	},
	"one phase only": func(w *world) {
		w.next = func(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time,
			fresh newKey) (rotation.Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			if r.Phase == rotation.Steady && n.Phase == rotation.Distributing {
				n.Generation-- // the ring that holds the new key for decryption only is never sent
				promote(&n, now)
			}
			return n, changed
		}
	},
	"forget the away":       only(func(m rotation.Member) bool { return m.Connected }),
	"forget the candidates": only(func(m rotation.Member) bool { return m.Answered }),
	"several rings a swap": func(w *world) {
		w.next = func(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time,
			fresh newKey) (rotation.Rollout, bool) {
			n, changed := r, false
			for again := true; again; changed = changed || again {
				n, again = n.Next(p, t, now, fresh)
			}
			return n, changed
		}
	},
	"burn without waiting": func(w *world) {
		w.next = func(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time,
			fresh newKey) (rotation.Rollout, bool) {
			n, changed := r.Next(p, t, now, fresh)
			if n.Phase == rotation.Burning {
				end(&n, now)
				return n, true
			}
			return n, changed
		}
	},
	"let in who is not written down":                      func(w *world) { w.careless = true },
	"a restart forgets the roster":                        func(w *world) { w.amnesiac = true },
	"after an outage those who are not back yet are dead": func(w *world) { w.hasty = true },
	"who is cut off keeps its nodes":                      func(w *world) { w.clinging = true },
	"believe every ACK":                                   func(w *world) { w.gullible = true },
}

// promote has the key that only decrypts encrypt, whoever has accepted it.
func promote(r *rotation.Rollout, now time.Time) {
	i := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return k.Promoted == 0 })
	r.Generation++
	k := r.Keys[i]
	k.Promoted, k.FirstUsed = r.Generation, now
	r.Keys = slices.Delete(slices.Clone(r.Keys), i, i+1)
	r.Keys[0].Demoted, r.Keys[0].DemotedAt, r.Keys[0].UnusedSince = r.Generation, now, time.Time{}
	r.Keys = slices.Insert(r.Keys, 0, k)
	r.Phase, r.Since = rotation.Promoting, now
}

// end ends the rotation or burn that is under way.
func end(r *rotation.Rollout, now time.Time) {
	r.Ended, r.Wanted, r.Refusers, r.Tries, r.RetryAt = r.Begun, nil, nil, 0, time.Time{}
	r.Phase, r.Since = rotation.Steady, now
}

// drop removes key i.
func drop(r *rotation.Rollout, i int) {
	r.Generation++
	r.Keys = slices.Delete(slices.Clone(r.Keys), i, i+1)
}

func only(keep func(rotation.Member) bool) func(*world) {
	return func(w *world) {
		w.next = func(r rotation.Rollout, p rotation.Policy, t rotation.Tally, now time.Time,
			fresh newKey) (rotation.Rollout, bool) {
			var kept []rotation.Member
			for _, m := range t.Members {
				if keep(m) {
					kept = append(kept, m)
				}
			}
			t.Members = kept
			return r.Next(p, t, now, fresh)
		}
	}
}

// The simulation must notice each mutant, or it guards nothing.
func TestTheSimulationHasTeeth(t *testing.T) {
	for name, mutate := range mutants {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2000) {
				w := newWorld(t, seed)
				mutate(w)
				if err := w.play(300); err != nil {
					t.Logf("noticed in fleet %d: %v", seed, err)
					return
				}
			}
			t.Fatal("2000 fleets did not notice")
		})
	}
}

// same compares what mutants change without a line in the history.
func same(a, b rotation.Rollout) bool {
	if a.Generation != b.Generation || a.Phase != b.Phase || a.Lines != b.Lines || len(a.Keys) != len(b.Keys) {
		return false
	}
	for i := range a.Keys {
		if a.Keys[i] != b.Keys[i] {
			return false
		}
	}
	return len(a.Excluded) == len(b.Excluded)
}
