package server

import (
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// tookOf has the events of a rig that have a duration, or are the first answer.
func tookOf(r *rig) (all []xds.Event) {
	for _, e := range r.seen {
		if e.First || e.Took != 0 {
			all = append(all, e)
		}
	}
	r.seen = nil
	return all
}

func onDemand(t *testing.T) *rig {
	r := newRig(t, false, defaults)
	r.m.env.onDemand = testType
	r.m.node.Service = xds.ADS
	r.m.env.observe = func(e xds.Event) { r.seen = append(r.seen, e) }
	return r
}

// A first answer says for how long the node waited, and an ACK for how long it had what was sent.
func TestEventsSayHowLongAnAnswerAndAnACKTook(t *testing.T) {
	r := onDemand(t)
	r.src.set("there", "1")
	r.delta(req{sub: []string{"there", "late"}})
	if got := tookOf(r); len(got) != 1 || !got[0].First || got[0].Took != 0 || got[0].Name != "there" {
		t.Errorf("what is there was answered: %+v", got)
	}
	r.now = r.now.Add(3 * time.Second)
	r.delta(req{nonce: r.last()})
	if got := tookOf(r); len(got) != 1 || got[0].Kind != xds.Accepted || got[0].Took != 3*time.Second {
		t.Errorf("the ACK: %+v", got)
	}
	r.src.set("late", "1")
	r.wake()
	if got := tookOf(r); len(got) != 1 || !got[0].First || got[0].Took != 3*time.Second || got[0].Name != "late" {
		t.Errorf("what came late: %+v", got)
	}
	r.src.set("late", "2")
	r.wake()
	if got := tookOf(r); len(got) != 0 {
		t.Errorf("a change is no first answer: %+v", got)
	}
	if len(r.m.waiting) != 0 {
		t.Errorf("%d still wait", len(r.m.waiting))
	}
}

// A name that the node gives up, or that is absent, waits no longer. What a node brings along was
// answered before.
func TestNothingWaitsForAnAnswerThatDoesNotCome(t *testing.T) {
	r := onDemand(t)
	r.delta(req{sub: []string{"a", "b", "c"}})
	if len(r.m.waiting) != 3 {
		t.Fatalf("%d wait", len(r.m.waiting))
	}
	r.delta(req{unsub: []string{"a"}})
	r.src.absent("b")
	r.wake()
	r.src.set("c", "1")
	r.wake()
	if len(r.m.waiting) != 0 {
		t.Errorf("%d still wait", len(r.m.waiting))
	}
	again := onDemand(t)
	again.src.set("a", "2")
	again.delta(req{sub: []string{"a"}, have: map[string]string{"a": "1"}})
	if got := tookOf(again); len(got) != 0 {
		t.Errorf("the node had an answer on another stream: %+v", got)
	}
}
