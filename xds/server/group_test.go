package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/xds"
)

// groupRig is a rig whose node may hold three names of a group, and one more for a moment. Names
// w0, w1 … are of one.
func groupRig(t testing.TB) *rig {
	l := defaults
	l.grouped, l.groupSlack, l.recentlyEvicted = 3, 1, 8
	r := newRig(t, false, l)
	r.m.env.onDemand = testType
	r.m.node.Service = xds.ADS
	for _, n := range names("w", 40) {
		r.member(n, "1", "w")
	}
	return r
}

func (r *rig) member(name, version, group string) {
	res := thing(name, version, 10)
	res.Group = group
	r.src.put(res, name)
}

// ask is a client's handshake for a name that the node does not hold: it reports whether it is
// served. Envoy lets go of what is absent.
func (r *rig) ask(name string) bool {
	r.t.Helper()
	switch out := r.delta(req{sub: []string{name}}); out {
	case name + "@1":
		r.delta(req{nonce: r.last()})
		return true
	case "-" + name:
		r.delta(req{nonce: r.last(), unsub: []string{name}})
		return false
	default:
		r.t.Fatalf("%s: %q", name, out)
		return false
	}
}

// evicts lets the time of an eviction pass and returns the name that goes, which the node then
// unsubscribes from.
func (r *rig) evicts() string {
	r.t.Helper()
	out := r.pass(r.m.env.limits.evictGap)
	name, ok := strings.CutPrefix(out, "-")
	if out != "" && !ok {
		r.t.Fatalf("%q", out)
	}
	if ok {
		r.delta(req{nonce: r.last(), unsub: []string{name}})
	}
	return name
}

func (r *rig) inGroup(name string) int {
	if g := r.m.groups.all[name]; g != nil {
		return g.names.Len()
	}
	return 0
}

func TestTheOldestOfAFullGroupGivesWayAndComesBack(t *testing.T) {
	r := groupRig(t)
	for i := range 4 {
		if !r.ask(fmt.Sprintf("w%d", i)) {
			t.Fatalf("w%d is refused", i)
		}
	}
	if r.ask("w9") {
		t.Fatal("more came in than may")
	}
	expect(t, "the oldest goes", r.evicts(), "w0")
	expect(t, "no more than that", r.evicts(), "")
	if !r.ask("w9") {
		t.Error("the next is refused although the oldest is gone")
	}
	if r.ask("w10") {
		t.Error("before another is gone")
	}
	for _, own := range []string{"own", "pinned"} {
		// those of no group are neither counted nor shut out
		r.member(own, "1", "")
		if !r.ask(own) {
			t.Errorf("%s is refused", own)
		}
	}
	if !r.ask("w0") {
		t.Error("what was evicted does not come back at once")
	}
	if n := r.inGroup("w"); n != 5 {
		t.Errorf("%d are held", n)
	}
	expect(t, "the oldest", r.evicts(), "w1")
	expect(t, "and the next", r.evicts(), "w2")
	expect(t, "until it is no more than may be", r.evicts(), "")
	if c := &r.m.env.counters; c.evicted.Load() != 3 || c.crowded.Load() != 2 {
		t.Errorf("%d evicted, %d refused", c.evicted.Load(), c.crowded.Load())
	}
}

// TestAClientThatIsQuickerThanTheUnsubscription asks again for what is being evicted.
func TestAClientThatIsQuickerThanTheUnsubscription(t *testing.T) {
	r := groupRig(t)
	r.delta(req{sub: names("w", 4)})
	expect(t, "evicted", r.pass(0), "-w0")
	r.member("w0", "2", "w")
	expect(t, "renewed before the node has unsubscribed", r.wake(), "")
	expect(t, "asked again", r.delta(req{nonce: r.last(), sub: []string{"w0"}}), "w0@2")
	expect(t, "refused", r.delta(req{sub: []string{"w9"}}), "-w9")
	expect(t, "refused again", r.delta(req{nonce: r.last(), sub: []string{"w9"}}), "-w9")
	expect(t, "the next oldest goes", r.pass(time.Second), "-w1")
}

// TestASprayCannotPutOutWhatClientsUse: strangers ask for names that nobody uses, far more often
// than names may come in; clients ask for theirs as soon as those were evicted.
func TestASprayCannotPutOutWhatClientsUse(t *testing.T) {
	r := groupRig(t)
	used := names("w", 3)
	holds := map[string]bool{}
	for _, n := range used {
		holds[n] = r.ask(n)
	}
	taken, most := 0, 0
	for i := range 3000 { // a millisecond each
		r.now = r.now.Add(time.Millisecond)
		if out := r.pass(0); out != "" {
			name := out[1:]
			r.delta(req{nonce: r.last(), unsub: []string{name}})
			holds[name] = false
		}
		stranger := fmt.Sprintf("s%d", i)
		r.member(stranger, "1", "w")
		if r.ask(stranger) {
			taken++
		}
		for _, n := range used {
			if !holds[n] {
				if holds[n] = r.ask(n); !holds[n] {
					t.Fatalf("after %d ms %s is refused, which was evicted", i, n)
				}
			}
		}
		most = max(most, r.inGroup("w"))
	}
	if evicted := r.m.env.counters.evicted.Load(); evicted < 100 || evicted > 151 {
		t.Errorf("%d were evicted in 3 s", evicted)
	}
	if most > 6 || taken > 151 || taken < 10 {
		t.Errorf("%d were held at once; %d strangers came in", most, taken)
	}
	if n := len(r.m.eviction.awaited); n > 10 {
		t.Errorf("%d that were told are remembered", n)
	}
}

// TestWhoCyclesThroughEvictedNamesGetsNoMoreThanTwiceTheBound: a stranger who asks for all that
// was evicted, at once.
func TestWhoCyclesThroughEvictedNamesGetsNoMoreThanTwiceTheBound(t *testing.T) {
	r := groupRig(t)
	for range 200 {
		r.evicts()
		for _, n := range names("w", 40) {
			if e := r.m.subs; len(e) == 0 || e[0].names[n] == nil {
				r.ask(n)
			}
		}
		if n := r.inGroup("w"); n > 6 {
			t.Fatalf("%d are held", n)
		}
	}
}

func TestWhatStaysSubscribedThoughTheGroupIsFullIsGivenBack(t *testing.T) {
	r := groupRig(t)
	r.delta(req{sub: names("w", 4)})
	expect(t, "a chain of an operator's asks for the name itself", r.delta(req{sub: []string{"w9"}}), "-w9")
	r.delta(req{nonce: r.last()})
	expect(t, "the oldest goes", r.evicts(), "w0")
	expect(t, "still subscribed", r.pass(defaults.evictWait), "w9@1")
	if n := r.inGroup("w"); n != 3 {
		t.Errorf("%d are counted", n)
	}
	for _, n := range []string{"w10", "w11", "w12", "w13"} {
		r.ask(n)
		r.evicts()
	}
	if e := r.m.subs[0].names["w9"]; e == nil || e.removed {
		t.Error("it was evicted again")
	}
}

// TestANodeThatComesBackKeepsItsGroup: what it says it holds is let in, and brought down to the
// bound in time.
func TestANodeThatComesBackKeepsItsGroup(t *testing.T) {
	r := groupRig(t)
	have := map[string]string{}
	for _, n := range names("w", 6) {
		have[n] = "1"
	}
	expect(t, "silence", r.delta(req{sub: names("w", 6), have: have}), "")
	for _, n := range []string{"w0", "w1", "w2", ""} {
		expect(t, "evicted", r.evicts(), n)
	}
}

func TestANameThatGetsAResourceOfItsOwnLeavesItsGroup(t *testing.T) {
	r := groupRig(t)
	r.delta(req{sub: names("w", 4)})
	r.member("w0", "2", "")
	expect(t, "its own", r.wake(), "w0@2")
	expect(t, "none is too many", r.evicts(), "")
	r.src.absent("w1")
	r.wake()
	if n := r.inGroup("w"); n != 2 {
		t.Errorf("%d are counted", n)
	}
	r.member("w0", "2", "w")
	expect(t, "and back: the same version needs no sending", r.wake(), "")
	if n := r.inGroup("w"); n != 3 {
		t.Errorf("%d are counted", n)
	}
	r.delta(req{unsub: names("w", 4)})
	if len(r.m.groups.all) != 0 {
		t.Errorf("%d groups are kept of names that nobody holds", len(r.m.groups.all))
	}
}

// TestGroupsKeepTheirBounds whatever is asked, dropped, renewed and evicted, in any order.
func TestGroupsKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := groupRig(t)
		r.m.env.limits.held = 5
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			name := fmt.Sprintf("w%d", rapid.IntRange(0, 12).Draw(rt, "name"))
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1:
				r.delta(req{sub: []string{name}})
			case 2:
				r.delta(req{unsub: []string{name}})
			case 3:
				r.member(name, "1", []string{"w", "v", ""}[rapid.IntRange(0, 2).Draw(rt, "group")])
				r.wake()
			case 4:
				r.pass(time.Duration(rapid.IntRange(1, 6000).Draw(rt, "ms")) * time.Millisecond)
			}
			members, held := map[string]int{}, 0
			if len(r.m.subs) == 0 {
				continue
			}
			for _, e := range r.m.subs[0].names {
				if g := e.group(); g != nil {
					members[g.name]++
					if e.pinned || e.removed {
						rt.Fatalf("%s has a place: pinned %v, removed %v", e.name, e.pinned, e.removed)
					}
				}
				if e.held && !e.pinned && !e.gone {
					held++
				}
			}
			for _, g := range r.m.groups.all {
				if n := g.names.Len(); n != members[g.name] || n == 0 || n > 6 {
					rt.Fatalf("the group %s counts %d, %d are in it", g.name, n, members[g.name])
				}
			}
			if len(members) != len(r.m.groups.all) || held != r.held() {
				rt.Fatalf("groups %v of %d; %d held, %d counted", members, len(r.m.groups.all), held, r.held())
			}
		}
	})
}

func TestLatelyRemembersTheLast(t *testing.T) {
	var l recentNames
	for i := range 100 {
		l.add(fmt.Sprint(i%7), 4)
		if i%3 == 0 {
			l.take(fmt.Sprint(i % 5))
		}
		if len(l.slot) > 4 || len(l.ring) > 4 {
			t.Fatalf("%d are remembered", len(l.slot))
		}
	}
	l.add("x", 4)
	if !l.take("x") || l.take("x") {
		t.Error("a name is taken once")
	}
}
