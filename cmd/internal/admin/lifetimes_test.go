package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

// A lifetime that waits for the store, and lifetimes that differ, are problems of the scope. So is
// a roster that has no room for all nodes.
func TestAScopeSaysWhichLifetimesAreInForceAndThatItsRosterIsFull(t *testing.T) {
	st := replicas.Status{Replica: "r1", TicketLifetime: time.Hour}
	st.Lifetimes = map[string]time.Duration{"r1": time.Hour}
	st.Policy.TicketLifetime = time.Hour
	said := func() string {
		var out []string
		for _, p := range ofScope("blue", st) {
			if p.Code != problems.NoRing {
				out = append(out, p.Code+" "+p.Text)
			}
			if p.Severity == api.Critical && p.Code != problems.NoRing {
				t.Errorf("%+v", p)
			}
		}
		return strings.Join(out, "\n")
	}
	if got := said(); got != "" {
		t.Errorf("nothing is wrong, and it says %s", got)
	}
	st.Policy.TicketLifetime = 2 * time.Hour
	if got := said(); !strings.HasPrefix(got, "lifetime-waits") || !strings.Contains(got, "for 1h0m0s still") ||
		strings.Contains(got, "lifetimes-differ") {
		t.Error(got)
	}
	st.Policy.TicketLifetime = time.Minute // its own entry is longer until the ring has noted it
	st.TicketLifetime = time.Minute
	if got := said(); got != "" {
		t.Error(got)
	}
	st.Lifetimes = map[string]time.Duration{"r1": time.Minute, "r3": time.Hour, "r2": time.Minute}
	if got := said(); !strings.HasPrefix(got, "lifetimes-differ") ||
		!strings.Contains(got, "is 1m0s here, and 1h0m0s at replica r3: keys") {
		t.Error(got)
	}
	st.Lifetimes, st.Summed = nil, 17
	if got := said(); !strings.HasPrefix(got, "roster-full") || !strings.Contains(got, "17 nodes") {
		t.Error(got)
	}
	st.TicketLifetime = 0 // no node was told anything yet
	if got := said(); strings.Contains(got, "lifetime") {
		t.Error(got)
	}
}
