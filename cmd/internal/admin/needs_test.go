package admin

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/identity"
)

// Whoever adds a route says who may use it.
func TestEveryRouteIsInTheTableOfRoles(t *testing.T) {
	known := newAdmin(Config{Metrics: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler)}).routes().known
	for _, pattern := range known {
		if _, ok := needs[pattern]; !ok {
			t.Errorf("%s is not in needs: say there which role may use it", pattern)
		}
	}
	for pattern, n := range needs {
		if !slices.Contains(known, pattern) {
			t.Errorf("needs has %s, which is no route", pattern)
		}
		method, _, _ := strings.Cut(pattern, " ")
		if n.peers && (method != http.MethodGet || n.role != identity.Read) {
			t.Errorf("%s: replicas may only read of each other", pattern)
		}
		if n.role == identity.Read && method != http.MethodGet && pattern != "POST /v1/audit/verify" {
			t.Errorf("%s: the role read may change something", pattern)
		}
		open := pattern == "GET /metrics" || pattern == "GET /healthz" || pattern == "GET /readyz"
		if (n.role == identity.NoRole) != open {
			t.Errorf("%s: open to everybody: %v", pattern, n.role == identity.NoRole)
		}
	}
}

func TestAClaimCannotBeTakenForAnythingElse(t *testing.T) {
	for claim, want := range map[string]string{
		"root@vm":                  "token alice (claims root@vm)",
		"":                         "token alice",
		"x) local administrator (": "token alice (claims x? local administrator ?)",
		"a\nb\x1b[2J":              "token alice (claims a?b?[2J)",
		strings.Repeat("é", 200):   "token alice (claims " + strings.Repeat("é", maxClaim/2) + ")",
		// by quadratic time this one would take hours
		strings.Repeat("\xff", 4<<20): "token alice (claims " + strings.Repeat("\ufffd", maxClaim/3) + ")",
	} {
		if got := (&caller{name: "token alice", claim: cleaned(claim)}).String(); got != want {
			t.Errorf("%q: %q, want %q", claim, got, want)
		}
	}
}
