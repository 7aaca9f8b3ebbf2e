package fleet

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

type simNode struct {
	name    string
	at      *simReplica
	stream  uint64 // 0: not connected
	holds   uint64 // generation; 0: nothing
	sent    uint64 // on its way, applied at arrives
	arrives time.Time
	acks    []simAck
	away    time.Time // since when it is not connected
	back    bool      // it connected again well before its lease ended
	refuse  int       // how many more rings it refuses
	// one of its filter chains cannot be built: it stores a ring, gives it to the chains before
	// that one, and refuses it
	ill bool
	// generation: what it stored last. It answers the same bytes with an ACK, and does not look at
	// them
	stored    uint64
	partly    uint64 // generation: what the chains before the ill one have
	same      bool   // what is on its way has the bytes of what it stored
	returning bool   // is new, or was away beyond its lease, and has got no ring since
	// was excluded, or met a burn, and has not got the present ring since: others' tickets may be
	// refused there
	excused bool
	used    map[keysource.TicketKey]time.Time
}

type simAck struct {
	at         time.Time
	generation uint64
	refused    bool
	worthless  bool
}

// simRogue is a stream that a client's SNI made a node open: it asks for the ring as a
// certificate.
type simRogue struct {
	node    string
	at      *simReplica
	stream  uint64
	answers time.Time // when it refuses; zero: never
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

func (n *simNode) forget() { n.stream, n.sent, n.same, n.acks = 0, 0, false, nil }

func (w *world) connect(n *simNode, c *simReplica) {
	w.lapse()
	w.streams++
	n.forget()
	n.stream, n.at = w.streams, c
	n.back = c.unlike.IsZero() && !n.returning && w.now.Sub(n.away) < w.policy.NodeLease-silentFor
	held := ""
	if n.holds != 0 {
		held = w.rings[n.holds].Version()
	}
	c.roster.enter(Asked{
		Stream: n.stream, Node: n.name, Held: held, Believed: w.rnd.IntN(4) > 0, Group: w.group,
	}, c.ring, w.now)
	if w.careless {
		c.roster.streams[n.stream].ready = true
	}
}

func (w *world) disconnect(n *simNode) {
	if w.known(n) {
		n.away = w.now
	}
	n.at.roster.end(n.stream, w.now)
	n.forget()
}

// move connects n elsewhere; the old replica notices later.
func (w *world) move(n *simNode) {
	old, at := n.stream, n.at
	if w.known(n) {
		n.away = w.now
	}
	w.connect(n, w.replicas[w.rnd.IntN(len(w.replicas))])
	end := func() { at.roster.end(old, w.now) }
	if w.rnd.IntN(2) == 0 {
		end()
	} else {
		w.closing = append(w.closing, end)
	}
}

// deliver sends the present ring of a replica to those of its nodes that may have it.
func (w *world) deliver() {
	for _, n := range w.nodes {
		if n.stream == 0 {
			continue
		}
		e, now := n.at.roster.streams[n.stream], n.at.ring.Generation
		// what was refused is tried again
		again := e != nil && e.Refused == now && n.stored == now && w.rnd.IntN(20) == 0
		if e == nil || !e.ready || n.sent == now || n.holds == now && n.sent == 0 || e.Refused == now && !again {
			continue
		}
		if now < n.holds {
			w.fault = fmt.Errorf("%s holds g%d and is sent g%d", n.name, n.holds, now)
		}
		n.same = again && w.rnd.IntN(2) == 0 // or in other bytes
		n.sent, n.arrives = now, w.now.Add(w.delay())
	}
	w.rogues = slices.DeleteFunc(w.rogues, func(r *simRogue) bool {
		e := r.at.roster.streams[r.stream]
		if r.answers.IsZero() || w.now.Before(r.answers) || e == nil || !e.ready {
			return false
		}
		if !r.at.roster.refuse(r.stream, r.at.ring.Generation, "not a certificate") {
			w.fault = errors.New("a stream whose first answer was a refusal is not barred")
		}
		r.at.roster.end(r.stream, w.now)
		return true
	})
}

// act lets nodes apply what arrived, make a ticket, and tell the control plane.
func (w *world) act() {
	for _, n := range w.nodes {
		if n.stream != 0 && n.sent != 0 && !n.arrives.After(w.now) {
			ack := simAck{at: w.now.Add(w.delay()), generation: n.sent}
			switch {
			case n.same:
				ack.worthless = true
			case n.refuse > 0 && n.holds != 0:
				n.refuse--
				ack.refused = true
			case n.ill && n.holds != 0:
				n.stored, n.partly = n.sent, n.sent
				ack.refused = true
			default:
				n.stored, n.holds, n.partly, n.returning = n.sent, n.sent, n.sent, false
			}
			n.sent, n.same = 0, false
			n.acks = append(n.acks, ack)
		}
		for len(n.acks) > 0 && !n.acks[0].at.After(w.now) {
			if a := n.acks[0]; a.worthless && !w.gullible {
				// the server knows what it is worth
			} else if a.refused {
				n.at.roster.refuse(n.stream, a.generation, "no")
			} else {
				n.at.roster.accept(n.stream, a.generation)
			}
			n.acks = n.acks[1:]
		}
		if w.lapse(); w.present(n) && n.holds == w.stored.Generation {
			n.returning = false
			n.excused = n.excused && w.now.Before(w.stored.Excluded[n.name])
		}
		if w.live(n) {
			n.used[w.rings[n.holds].Keys[0]] = w.now
			n.used[w.rings[n.partly].Keys[0]] = w.now
		}
	}
}

// known: the node is connected, and its replica has written that down.
func (w *world) known(n *simNode) bool {
	if n.stream == 0 {
		return false
	}
	e := n.at.roster.streams[n.stream]
	return e != nil && !e.asked
}

// present: connected, or away for less than the lease. One that is back counts at once, although
// its replica may not be able to write that down, unless another one can; but not if it came when
// its lease was about to end.
func (w *world) present(n *simNode) bool {
	return w.known(n) || w.now.Sub(n.away) < w.policy.NodeLease || n.stream != 0 && n.back
}

// lapse notes whose lease has ended.
func (w *world) lapse() {
	for _, n := range w.nodes {
		n.returning = n.returning || !w.present(n)
	}
}

// live as P1 says it: it serves, and is present. One that was away for longer is live again once
// it was sent a ring, or holds the present one.
func (w *world) live(n *simNode) bool { return n.holds != 0 && !n.returning && w.present(n) }

// check is P1, and what a burn promises.
func (w *world) check() error {
	for _, to := range w.nodes {
		if !w.live(to) {
			continue
		}
		ring := w.rings[to.holds].Keys
		for _, from := range w.nodes {
			for key, at := range from.used {
				if w.now.Sub(at) >= w.policy.TicketLifetime {
					delete(from.used, key)
					continue
				}
				if !to.excused && !slices.Contains(ring, key) && (len(w.stored.Burnt) == 0 || !isBurnt(w.stored, key)) {
					return fmt.Errorf("a ticket of %s, made %s ago with %s, is refused by %s, which holds g%d (%s g%d)",
						from.name, w.now.Sub(at), key.ID(), to.name, to.holds, w.stored.Phase, w.stored.Generation)
				}
			}
		}
		if w.stored.Phase != rotation.Burning && len(w.stored.Burnt) > 0 &&
			slices.ContainsFunc(ring, func(k keysource.TicketKey) bool { return isBurnt(w.stored, k) }) {
			return fmt.Errorf("the burn has ended, and %s holds g%d with a burnt key", to.name, to.holds)
		}
	}
	return w.fault
}
