package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/rotation"
)

// TestNodesAreKeptWhereNobodyIsBetterOff: while the store is lost to all, sending nodes around would help nobody.
func TestNodesAreKeptWhereNobodyIsBetterOff(t *testing.T) {
	ask := func(_ context.Context, p rotation.Peer) (api.Status, error) {
		if p.Replica == "silent" {
			return api.Status{}, errors.New("no answer")
		}
		return api.Status{StoreDown: p.Replica == "down"}, nil
	}
	for peers, want := range map[string]bool{
		"":                 false,
		"up":               true,
		"down":             false,
		"down down":        false,
		"down up":          true,
		"silent":           true, // it may be we who are cut off
		"silent down":      false,
		"silent silent up": true,
	} {
		var all []rotation.Peer
		for _, name := range strings.Fields(peers) {
			all = append(all, rotation.Peer{Replica: name})
		}
		if got := missed(t.Context(), all, ask); got != want {
			t.Errorf("%q: let go %v, want %v", peers, got, want)
		}
	}
}
