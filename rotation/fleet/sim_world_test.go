package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// The simulation runs thousands of small fleets against Next and the roster, and checks P1 after
// each step: every ticket that a live node made less than ticket_lifetime ago is decrypted by
// every other live node. It knows what the nodes really hold; the control plane knows only what
// they answered, late. One or two replicas go through the steps of scope.look, and may stop
// between any two of them while the world goes on. Each may be cut off from the store, alone or
// together.

// decision is what Next is, and what mutants put in its place.
type decision = func(rotation.Rollout, rotation.Policy, rotation.Tally, time.Time, newKey) (rotation.Rollout, bool)

// newKey makes a key.
type newKey = func() keysource.TicketKey

// world is one fleet.
type world struct {
	// group is what all nodes of a fleet that shares one certificate are in. Otherwise it is empty.
	group    string
	t        *testing.T
	rnd      *rand.Rand
	policy   rotation.Policy
	now      time.Time
	stored   rotation.Rollout // the store
	rev      int              // of stored
	rings    map[uint64]keysource.Ring
	replicas []*simReplica
	nodes    []*simNode
	rogues   []*simRogue
	closing  []func() // streams that ended without anybody noticing yet
	command  *simCommand
	streams  uint64
	fault    error // beside P1
	skipped  bool  // laggards were left behind, after MaxKeyAge and by name

	next     decision // mutants replace these
	careless bool     // who asks is let in before the roster is stored
	hasty    bool     // after an outage those who are not back yet are taken for dead
	clinging bool     // who is cut off does not let its nodes go
	amnesiac bool     // a restart forgets the roster
	gullible bool     // an ACK of the bytes that a node stored last is believed
}

// simReplica is a control plane: what scope keeps, and where it stands in look.
type simReplica struct {
	roster *roster
	saved  []byte // its roster in the store
	ring   keysource.Ring
	asked  []*entry

	step  int // 0: write down who asked, 1: read, 2: decide
	view  rotation.Rollout
	tally rotation.Tally
	at    time.Time // when it was read: leases are judged by what was known then
	rev   int

	cut          bool      // off from the store
	said         time.Time // when saved was written
	othersRead   time.Time // see turn
	readingSince time.Time
	quorum       quorum
	unlike       time.Time // it has been cut off, and another one has not, since then; zero: not so
}

// simCommand was decided on what was read, and is not swapped in yet.
type simCommand struct {
	rev    int
	r      rotation.Rollout
	excuse func()
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), group: [2]string{1: "shared"}[seed%2],
		policy: rotation.Policy{
			Period: 60 * time.Second, TicketLifetime: 120 * time.Second, MaxKeyAge: 20 * time.Minute, Quorum: 1,
			RefuseGrace: 30 * time.Second, ClientCerts: "none",
		},
		now: time.Unix(1_700_000_000, 0).UTC(), stored: rotation.Rollout{Scope: "default"},
		rings: map[uint64]keysource.Ring{}, next: rotation.Rollout.Next,
	}
	w.policy.NodeLease = []time.Duration{40 * time.Second, 75 * time.Second}[w.rnd.IntN(2)]
	for range 1 + w.rnd.IntN(2) {
		w.replicas = append(w.replicas, &simReplica{roster: newRoster()})
	}
	for i := range 1 + w.rnd.IntN(5) {
		w.nodes = append(w.nodes, &simNode{name: fmt.Sprintf("n%d", i), used: map[keysource.TicketKey]time.Time{}})
	}
	for _, c := range w.replicas {
		w.look(c)
	}
	return w
}

func (w *world) key() (k keysource.TicketKey) {
	for i := range k {
		k[i] = byte(w.rnd.Uint32())
	}
	return k
}

// put swaps r in, as it comes back from its stored form.
func (w *world) put(r rotation.Rollout) {
	b, err := r.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	before := w.stored.Lines
	if w.stored, err = rotation.Decode("default", b); err != nil {
		w.t.Fatalf("%v\n%+v", err, r.History)
	}
	for _, l := range r.History[len(r.History)-int(r.Lines-before):] {
		w.skipped = w.skipped || len(l.LeftBehind) > 0
	}
	w.rev++
	if _, again := w.rings[r.Generation]; !again {
		w.rings[r.Generation] = w.stored.Ring()
	}
}

func (w *world) tallied(c *simReplica) rotation.Tally {
	if w.now.Sub(c.othersRead) > gapAfter && !w.hasty {
		c.readingSince = w.now
		c.roster.outage(time.Time{}, w.now)
	}
	c.othersRead = w.now
	lists := []heard{{w.now, c.roster.sorted(false)}}
	for _, other := range w.replicas {
		if other != c && other.saved != nil {
			h := w.decode(other.saved)
			h.carry(w.now, c.readingSince)
			lists = append(lists, h)
		}
	}
	return rotation.Tally{Members: union(lists...), Highest: c.roster.highest}
}

func (w *world) decode(b []byte) heard {
	r, err := decodeRoster(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return heard{r.peer.At, r.members}
}

// advance takes the next step of look.
func (w *world) advance(c *simReplica) {
	switch c.step {
	case 0:
		w.lapse()
		c.asked = c.roster.letIn(c.ring.Generation, w.now)
		c.saved, c.said = rosterRecord{Peer{At: w.now}, c.roster.sorted(true)}.encode(), w.now
		c.step = 1
	case 1:
		c.view, c.rev, c.tally, c.at = w.stored, w.rev, w.tallied(c), w.now
		c.quorum = c.quorum.after(c.view, w.policy, c.tally, c.at)
		c.tally.AcceptedSince = c.quorum.since
		c.step = 2
	case 2:
		r, changed := w.next(c.view, w.policy, c.tally, c.at, w.key)
		if changed {
			c.step = 1
			if w.rev == c.rev {
				w.put(r)
				c.ring = w.rings[w.stored.Generation]
			}
			return
		}
		c.ring = w.rings[c.view.Generation]
		for _, e := range c.asked {
			e.ready = true
		}
		c.roster.expire(w.policy, w.now)
		c.step, c.asked = 0, nil
	}
}

// look is one whole turn.
func (w *world) look(c *simReplica) {
	if c.cut {
		return
	}
	for w.advance(c); c.step != 0; {
		w.advance(c)
	}
}

// restart is kill -9: what was not stored is gone, and all streams end.
func (w *world) restart(c *simReplica) {
	var kept []rotation.Member
	if c.saved != nil && !w.amnesiac {
		kept = w.decode(c.saved).members
	}
	for _, n := range w.nodes {
		if n.at != c || n.stream == 0 {
			continue
		}
		if w.known(n) {
			n.away = w.now
		}
		n.forget()
	}
	w.rogues = slices.DeleteFunc(w.rogues, func(r *simRogue) bool { return r.at == c })
	c.roster, c.quorum = newRoster(), quorum{}
	c.roster.resume(kept, w.now)
	c.asked, c.step = nil, 0
	w.look(c)
}

// ask decides a command on what c knows; it is swapped in later, if nothing came between.
func (w *world) ask(c *simReplica) {
	t := w.tallied(c)
	cmd := simCommand{rev: w.rev, excuse: func() {}}
	var err error
	switch w.rnd.IntN(16) {
	case 0, 1, 2, 3:
		cmd.r, _, err = w.stored.Rollback("sim", "", w.policy, t, w.now, w.key())
	case 4, 5:
		n := w.nodes[w.rnd.IntN(len(w.nodes))]
		cmd.r, err = w.stored.Exclude(n.name, "sim", "", w.now.Add(time.Duration(w.rnd.IntN(100))*time.Second), w.now)
		cmd.excuse = func() { n.excused = true }
	case 6:
		cmd.r, _ = w.stored.Burn("sim", "", w.key(), w.now)
		cmd.excuse = func() {
			for _, n := range w.nodes {
				n.excused = true
			}
		}
	default:
		cmd.r, _, err = w.stored.Ask(rotation.Request{By: "sim"}, w.policy, w.now)
	}
	if err != nil {
		return
	}
	if cmd.r.Generation == w.stored.Generation {
		cmd.r, _ = w.next(cmd.r, w.policy, t, w.now, w.key)
	}
	w.command = &cmd
}

func (w *world) settleCommand() {
	if c := w.command; c != nil && c.rev == w.rev {
		w.put(c.r)
		c.excuse()
	}
	w.command = nil
}
