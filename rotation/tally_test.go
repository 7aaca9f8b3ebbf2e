package rotation

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

func TestABurnWaitsForNothingElseOnceAllThatAreLeftMustBeRestarted(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	p := Policy{NodeLease: time.Minute}
	r := Rollout{Scope: "default", Generation: 4}
	r, _ = r.Burn("test", "leaked", keysource.NewTicketKey(), now)
	burnt := r.Target()
	stuck := Member{
		Node: "stuck", Nr: 1, Floor: burnt - 1, Answered: true, Connected: true, Since: now,
		Refused: burnt, Stuck: true, Words: "no",
	}
	change := func(m Member, f func(*Member)) Member { f(&m); return m }
	well := Member{Node: "well", Nr: 1, Floor: burnt, Answered: true, Connected: true, Since: now}
	for name, c := range map[string]struct {
		members []Member
		stuck   int
		only    bool
	}{
		"nobody is waited for": {[]Member{well}, 0, false},
		"one is stuck":         {[]Member{stuck, well}, 1, true},
		"another has not answered": {
			[]Member{stuck, change(well, func(m *Member) { m.Node, m.Floor = "late", 0 })}, 1, false,
		},
		"another refuses, and may be cured": {
			[]Member{stuck, change(stuck, func(m *Member) { m.Node, m.Stuck = "ill", false })}, 1, false,
		},
		"it has not said what it thinks of this ring": {
			[]Member{change(stuck, func(m *Member) { m.Refused = burnt - 1 })}, 0, false,
		},
		"it is being restarted": {[]Member{change(stuck, func(m *Member) { m.Connected = false })}, 0, false},
	} {
		why, only := r.stuck(p, Tally{Members: c.members}, now)
		if len(why) != c.stuck || only != c.only {
			t.Errorf("%s: %q, only %v", name, why, only)
		}
		for _, w := range why {
			if !strings.Contains(w, "restart this Envoy") || !strings.Contains(w, "take a burnt key") {
				t.Errorf("%s: %q", name, w)
			}
		}
	}
	hold := r
	hold.Hold = now.Add(time.Second)
	if _, only := hold.stuck(p, Tally{Members: []Member{stuck}}, now); only {
		t.Error("it waits for the other replicas as well")
	}
}
