package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// rosterLab is a roster and the ring that its streams may be sent.
type rosterLab struct {
	*roster
	t    *testing.T
	now  time.Time
	ring keysource.Ring
}

func newRosterLab(t *testing.T) *rosterLab {
	return &rosterLab{
		roster: newRoster(), t: t, now: epoch,
		ring: keysource.Ring{Generation: 5, Keys: []keysource.TicketKey{testKey(1)}},
	}
}

func (o *rosterLab) join(stream uint64, node, held string) {
	o.roster.enter(Asked{Stream: stream, Node: node, Held: held, Believed: true}, o.ring, o.now)
}

func (o *rosterLab) letIn() {
	for _, e := range o.roster.letIn(o.ring.Generation, o.now) {
		e.ready = true
	}
}

// want compares the roster: name, floor, ? for a candidate, ~ for one who is away, ! for one who
// refuses.
func (o *rosterLab) want(want string) {
	o.t.Helper()
	var got []string
	for _, m := range o.sorted(true) {
		s := fmt.Sprintf("%s=%d", m.Name(), m.Floor)
		if !m.Answered {
			s += "?"
		}
		if !m.Connected {
			s += "~"
		}
		if m.Refused != 0 {
			s += "!"
		}
		got = append(got, s)
	}
	if s := strings.Join(got, " "); s != want {
		o.t.Fatalf("roster %q, want %q", s, want)
	}
}

func TestWhatANodeHoldsWhenItJoins(t *testing.T) {
	older := keysource.Ring{Generation: 3, Keys: []keysource.TicketKey{testKey(2)}}
	for name, c := range map[string]struct {
		held, want string
		highest    uint64
	}{
		"nothing":                     {"", "a=0?", 0},
		"the present ring":            {"present", "a=5", 0},
		"an older one":                {older.Version(), "a=3", 0},
		"another one of that number":  {keysource.Ring{Generation: 5}.Version(), "a=0", 0},
		"a later one":                 {keysource.Ring{Generation: 9}.Version(), "a=0", 9},
		"one that nobody can have":    {keysource.Ring{Generation: 5 + (1 << 24)}.Version(), "a=0", 0},
		"something that is no ring's": {"g07-000000000000", "a=0?", 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := newRosterLab(t)
			if c.held == "present" {
				c.held = o.ring.Version()
			}
			o.join(1, "a", c.held)
			o.want(c.want)
			if o.highest != c.highest {
				t.Errorf("highest %d, want %d", o.highest, c.highest)
			}
		})
	}
}

func TestAFirstRefusalLeavesNoTrace(t *testing.T) {
	o := newRosterLab(t)
	o.join(1, "a", o.ring.Version())
	o.letIn()
	o.join(2, "a", "") // a client's SNI
	o.letIn()
	o.want("a=5 a#2=5?")
	if !o.refuse(2, 5, "not a certificate") || !o.barred[2] {
		t.Error("not barred")
	}
	o.want("a=5")
	o.join(2, "a", "") // it asks again
	o.want("a=5")
	o.end(2, o.now)
	if o.want("a=5"); len(o.barred) != 0 {
		t.Error("the bar outlives its stream")
	}
	if o.refuse(1, 6, "no") {
		t.Error("a member is barred")
	}
	o.want("a=5!")
	o.accept(1, 6)
	o.want("a=6")
}

func TestALostStreamIsAwayADroppedOneIsGone(t *testing.T) {
	o := newRosterLab(t)
	o.join(1, "a", o.ring.Version())
	o.join(2, "b", "")
	o.join(3, "c", "")
	o.letIn()
	o.join(4, "d", "") // was sent nothing yet
	for stream := range uint64(5) {
		if o.end(stream, o.now) != (stream > 0) {
			t.Errorf("stream %d", stream)
		}
	}
	o.want("a=5~ b=5?~ c=5?~")
	o.join(5, "a", "")
	o.drop(5)
	o.want("a=5~ b=5?~ c=5?~")
	o.expire(rotation.DefaultPolicy(), o.now.Add(75*time.Second-1))
	o.want("a=5~ b=5?~ c=5?~")
	o.expire(rotation.DefaultPolicy(), o.now.Add(75*time.Second))
	if o.want(""); len(o.members) != 0 {
		t.Error("something is left")
	}
}

func TestANodeThatComesBackTakesItsPlace(t *testing.T) {
	o := newRosterLab(t)
	o.join(1, "a", o.ring.Version())
	o.letIn()
	o.join(2, "a", o.ring.Version()) // before the end of the first stream was noticed
	o.letIn()
	o.want("a=5 a#2=5")
	o.end(1, o.now)
	o.want("a=5")
	o.end(2, o.now)
	o.want("a=5~")
	o.join(3, "a", o.ring.Version()) // not beside its own ghost
	o.want("a=5")
	o.end(3, o.now)
	o.join(4, "a", "") // restarted: it is the one that was away as soon as it has accepted
	o.letIn()
	o.want("a=5~ a#2=5?")
	o.accept(4, 5)
	o.want("a=5")
	o.join(5, "a", "")
	o.letIn()
	o.want("a=5 a#2=5?")
}

func TestRestoreTakesTheConnectedForAway(t *testing.T) {
	o := newRosterLab(t)
	o.resume([]rotation.Member{
		{Node: "a", Nr: 1, Floor: 4, Answered: true, Connected: true, Since: epoch.Add(-time.Hour)},
		{Node: "a", Nr: 1, Floor: 3, Answered: true, Since: epoch},
		{Node: "b", Nr: 2, Floor: 4, Since: epoch.Add(-time.Minute)},
	}, epoch)
	o.want("a=4~ b#2=4?~")
	o.expire(rotation.DefaultPolicy(), epoch.Add(15*time.Second))
	o.want("a=4~")
	o.join(1, "a", "")
	o.letIn()
	o.accept(1, 5)
	o.want("a=5")
}

func TestUnionCountsANodeOnce(t *testing.T) {
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	m := func(floor uint64, connected bool, since int) rotation.Member {
		return rotation.Member{Node: "a", Nr: 1, Floor: floor, Answered: true, Connected: connected, Since: at(since)}
	}
	brought := func(floor uint64, since int) rotation.Member {
		m := m(floor, true, since)
		m.Brought = true
		return m
	}
	candidate := rotation.Member{Node: "a", Nr: 1, Floor: 9, Connected: true, Since: at(90)}
	for name, c := range map[string]struct {
		one, two   rotation.Member
		heard1, at int // when the replica of the first was heard; of the second
		want       string
	}{
		"it moved, and the old replica knows":        {m(4, false, 20), m(5, true, 10), 30, 30, "a 5"},
		"it moved, and the old has not spoken since": {brought(4, 10), brought(5, 20), 20, 30, "a 5"},
		"two live nodes under one id":                {brought(4, 10), brought(5, 20), 21, 30, "a 4, a#2 5"},
		"or one that has restarted":                  {m(4, true, 10), m(5, true, 20), 20, 30, "a 4, a#2 5"},
		"it was lost at both":                        {m(4, false, 10), m(5, false, 20), 30, 30, "a 5"},
		"or nobody knows at which later":             {m(4, false, 20), m(5, false, 20), 30, 30, "a 4"},
		"a candidate hides no member":                {m(4, true, 10), candidate, 90, 90, "a 4, a#2 9"},
		"nor one who is away":                        {m(4, false, 10), candidate, 90, 90, "a 4, a#2 9"},
		"nor another candidate":                      {candidate, candidate, 90, 90, "a 9, a#2 9"},
	} {
		one, two := heard{at(c.heard1), []rotation.Member{c.one}}, heard{at(c.at), []rotation.Member{c.two}}
		for _, lists := range [][]heard{{one, two}, {two, one}} {
			var got []string
			for _, m := range union(lists...) {
				got = append(got, fmt.Sprintf("%s %d", m.Name(), m.Floor))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("%s: %q, want %q", name, s, c.want)
			}
		}
	}
}

// A node whose connections died comes again and again. After a pause its streams are served in any
// order, and their ends are noticed at any time: it is one node all the same.
func TestANodeIsCountedOnceWheneverItsOldStreamsAreSeenToEnd(t *testing.T) {
	const conns = 4 // the first is served before the pause; the last one lives
	stories := 0
	var play func(events []string, waiting, open []uint64)
	play = func(events []string, waiting, open []uint64) {
		if len(waiting) == 0 && len(open) == 1 {
			stories++
			for _, let := range []bool{true, false} {
				o := newRosterLab(t)
				streams, live := map[uint64]uint64{}, uint64(0) // by connection
				for _, event := range append([]string{"join 1"}, events...) {
					var conn uint64
					if _, err := fmt.Sscanf(event, "join %d", &conn); err == nil {
						streams[conn] = uint64(len(streams) + 1)
						o.roster.enter(Asked{
							Stream: streams[conn], Conn: conn, Node: "a", Held: o.ring.Version(), Believed: true,
						}, o.ring, o.now)
						live = streams[conns]
					} else if _, err := fmt.Sscanf(event, "end %d", &conn); err == nil {
						o.end(streams[conn], o.now)
					}
					if let || len(streams) == 1 {
						o.letIn()
					}
				}
				if got := len(o.members["a"]); got != 1 || !o.members["a"][0].Connected ||
					o.members["a"][0].Nr != 1 || o.members["a"][0].Stream != live {
					t.Errorf("%q: %d members: %+v", events, got, o.sorted(true))
				}
			}
			return
		}
		for i, conn := range waiting {
			play(append(slices.Clone(events), fmt.Sprintf("join %d", conn)),
				slices.Delete(slices.Clone(waiting), i, i+1), append(slices.Clone(open), conn))
		}
		for i, conn := range open {
			if conn < conns {
				play(append(slices.Clone(events), fmt.Sprintf("end %d", conn)), waiting,
					slices.Delete(slices.Clone(open), i, i+1))
			}
		}
	}
	play(nil, []uint64{2, 3, 4}, []uint64{1})
	if stories < 100 {
		t.Errorf("only %d stories", stories)
	}
}

// A roster that cannot be read tells nothing of its replica; that it is written again does.
func TestADamagedRosterIsOfALivingReplicaIfItIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		key := store.Rosters.Key("default", "r1")
		rev, err := s.Swap(t.Context(), key, 0, []byte("no roster"))
		if err != nil {
			t.Fatal(err)
		}
		if ps, err := Living(t.Context(), s); err != nil || len(ps) > 0 {
			t.Errorf("nobody writes: %v %v", ps, err)
		}
		time.AfterFunc(heartbeat, func() {
			if _, err := s.Swap(context.Background(), key, rev, []byte("another")); err != nil {
				t.Error(err)
			}
		})
		if ps, err := Living(t.Context(), s); err != nil || len(ps) != 1 || ps[0].Replica != "r1" {
			t.Errorf("it is written: %v %v", ps, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Living(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("there is no time to wait: %v", err)
		}
	})
}

// A claim that is not believed says that the node was not restarted: what it had accepted, as far
// as that is known, is still its floor.
func TestAClaimThatIsNotBelievedKeepsTheFloorThatIsKnown(t *testing.T) {
	for _, c := range []struct {
		what     string
		away     uint64 // the floor of the member that is away; 0: there is none
		believed bool
		want     uint64
	}{
		{"believed", 3, true, 5},
		{"not believed, and known from before", 3, false, 3},
		{"not believed, and not known", 0, false, 0},
	} {
		o := newRoster()
		now := epoch
		ring := keysource.Ring{Generation: 5, Keys: []keysource.TicketKey{testKey(1)}}
		if c.away != 0 {
			o.resume([]rotation.Member{
				{Node: "a", Nr: 1, Floor: c.away, Answered: true, Connected: true, Since: now},
			}, now)
		}
		o.enter(Asked{Stream: 1, Node: "a", Held: ring.Version(), Believed: c.believed}, ring, now)
		if e := o.streams[1]; e.Floor != c.want || !e.Answered || len(o.members["a"]) != 1 {
			t.Errorf("%s: floor %d, answered %v, %d members; want floor %d",
				c.what, e.Floor, e.Answered, len(o.members["a"]), c.want)
		}
	}
}
