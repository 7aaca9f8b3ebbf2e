package fleet

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What a stream says counts only while its identity may have the ring.
func TestOnlyAllowedNodesAreOnTheRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := prepare(t, s, "r1")
		var revoked []string
		p.gate = newGate(p.Coordinator, func(_, id, _ string) bool { return id == "good" }, func(_ string, a Asked) {
			revoked = append(revoked, a.Node)
		})
		p.run()
		<-p.Ready()
		p.Join("default", Asked{Stream: 1, Node: "a", Identity: "good", Held: p.Version("default"), Believed: true})
		p.Join("default", Asked{Stream: 2, Node: "b", Identity: "bad", Held: p.Version("default"), Believed: true})
		p.Accepted(2, "default", p.Version("default"))
		time.Sleep(time.Second)
		if got := members(p.status()); got != "a=1" {
			t.Errorf("on the roster: %q", got)
		}
		p.SetAllows(func(_, id, _ string) bool { return id == "bad" })
		time.Sleep(time.Second)
		if got := members(p.status()); got != "b=1" || !slices.Equal(revoked, []string{"a"}) {
			t.Errorf("on the roster: %q; revoked %v", got, revoked)
		}
		p.Closed(1)
		p.Closed(2)
		if len(p.gate.streams) != 0 {
			t.Error("streams are kept that have ended")
		}
	})
}

func TestWithoutAPolicyNoStreamIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		n := p.connect("a", "")
		time.Sleep(time.Second)
		if n.got() != "[1]" || len(p.gate.streams) != 0 {
			t.Errorf("the node was sent %s; %d streams are kept without a need", n.got(), len(p.gate.streams))
		}
	})
}
