package fleet

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// One identity with made-up ids fills its own share of the roster and no more. What is on the
// roster stays, and nodes that are known come back. There is room again when leases have ended.
func TestOneGroupDoesNotFillTheRoster(t *testing.T) {
	o := newRosterLab(t)
	long := strings.Repeat("x", 246)
	stream, in := uint64(0), 0
	enter := func(node, group, held string) bool {
		stream++
		return o.enter(Asked{Stream: stream, Node: node, Group: group, Held: held, Believed: true}, o.ring, o.now)
	}
	if !enter("first", "g", o.ring.Version()) {
		t.Fatal("the first one does not enter")
	}
	for i := range 10_000 {
		if enter(fmt.Sprintf("%s%d", long, i), "g", "") {
			in++
		}
	}
	if in < 2000 || in > 3000 || len(o.crowded) != 10_000-in {
		t.Fatalf("%d entered, %d wait", in, len(o.crowded))
	}
	if b := (rosterRecord{Peer{At: o.now}, o.list(nil, true)}).encode(); len(b) > maxGroupBytes+maxGroupBytes/8 {
		t.Errorf("the roster takes %d bytes", len(b))
	}
	if !enter("holder", "g", o.ring.Version()) {
		t.Error("a node that holds a ring does not enter, so nobody waits for it")
	}
	if !enter("a", "other", "") || !enter("b", "", "") {
		t.Error("others find no room")
	}
	o.end(1, o.now)
	if !enter("first", "g", o.ring.Version()) {
		t.Error("a node that is known does not come back")
	}

	// A restart forgets the groups, and nobody gets more room by that.
	again := newRosterLab(t)
	b := rosterRecord{Peer{At: o.now}, o.list(nil, true)}.encode()
	r, err := decodeRoster(b)
	if err != nil {
		t.Fatal(err)
	}
	again.resume(r.members, o.now)
	if again.enter(Asked{Stream: 1, Node: long, Group: "new"}, o.ring, o.now) {
		t.Error("after a restart there is room for as many again")
	}
	if !again.enter(Asked{Stream: 2, Node: "first", Group: "g", Held: o.ring.Version()}, o.ring, o.now) {
		t.Error("after a restart a node that is known does not come back")
	}
	if again.groups["g"] != memberBytes+len("first") {
		t.Errorf("%d bytes are counted", again.groups["g"])
	}

	p := rotation.DefaultPolicy()
	for s := range uint64(in + 2) {
		o.end(s+1, o.now)
	}
	o.now = o.now.Add(p.NodeLease)
	o.expire(p, o.now)
	waiting := len(o.crowded)
	if o.enterCrowded(o.ring, o.now); len(o.crowded) == 0 || len(o.crowded) >= waiting-2000 {
		t.Errorf("of %d that waited %d still do", waiting, len(o.crowded))
	}
	for s := range uint64(stream) {
		o.end(s+1, o.now)
	}
	o.now = o.now.Add(p.NodeLease)
	if o.expire(p, o.now); len(o.members) != 0 || len(o.crowded) != 0 || len(o.groups) != 0 {
		t.Errorf("left are %d members, %d that wait, %v", len(o.members), len(o.crowded), o.groups)
	}
}

// The words of refusals do not fill the stored roster, either.
func TestWordsOfRefusalsAreBoundedInTheRecord(t *testing.T) {
	var ms []rotation.Member
	for i := range 2000 {
		ms = append(ms, rotation.Member{
			Node: fmt.Sprint(i), Nr: 1, Refused: 3, Words: strings.Repeat("w", 500), Since: epoch, Grouped: true,
		})
	}
	b := rosterRecord{Peer{At: epoch}, ms}.encode()
	r, err := decodeRoster(b)
	if err != nil || len(r.members) != len(ms) || r.members[0].Words == "" || r.members[1999].Refused != 3 {
		t.Fatalf("%v, %d members", err, len(r.members))
	}
	if len(b) > maxRosterWords+40*len(ms) {
		t.Errorf("%d bytes", len(b))
	}
}

// A fleet in which all nodes share one certificate is waited for node by node, over two replicas.
// One that refuses has the new key taken back for the grace, and then only holds the rotation up.
func TestNodesOfOneGroupAreEachWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		shared := func(c *Config) { c.Shared = true }
		r1, r2 := start(t, s, "r1", shared), start(t, s, "r2", shared)
		join := func(p *plane, name string) *client {
			c := p.connectIn("shared", name)
			time.Sleep(time.Second)
			return c
		}
		join(r1, "a")
		bad := join(r1, "b")
		mute := join(r2, "c")
		bad.refuses.Store(true)
		r1.rotate()
		time.Sleep(2 * time.Second)
		if st := r1.status(); len(st.Refusers) != 1 || st.Begun != 1 || st.Ended != 0 {
			t.Errorf("refusers %v", st.Refusers)
		}
		time.Sleep(rotation.DefaultPolicy().RefuseGrace + 6*time.Minute)
		st := r1.status()
		if st.Phase != rotation.Distributing || len(st.BlockedBy) != 1 || !strings.Contains(st.BlockedBy[0], "b:") {
			t.Errorf("%s, blocked by %q", st.Phase, st.BlockedBy)
		}
		mute.mute.Store(true)
		bad.refuses.Store(false)
		r1.Accepted(bad.stream, "default", r1.Version("default"))
		time.Sleep(20 * time.Second)
		st = r1.status()
		if st.Phase != rotation.Promoting || !strings.Contains(strings.Join(st.BlockedBy, " "), "c:") {
			t.Errorf("%s, blocked by %q: a member of the group that has not accepted is not waited for",
				st.Phase, st.BlockedBy)
		}
	})
}
