package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/presence"
)

// A gone node whose last ring had the key has it. Of one with a later ring nobody knows, which is
// said; one with an earlier ring never had it.
func TestGoneNodesAreAmongThoseThatReceivedAKey(t *testing.T) {
	left := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	ring := func(g int) map[string]string { return map[string]string{"default": fmt.Sprintf("g%d-0123456789ab", g)} }
	gone := []presence.Node{
		{ID: "before", Since: left, Gone: true, Rings: ring(4)},
		{ID: "had", Since: left, Gone: true, Rings: ring(6), Identity: "i"},
		{ID: "back", Since: left, Gone: true, Rings: ring(6)},
		{ID: "leaving", Since: left, Rings: ring(5)},
		{ID: "later", Since: left, Gone: true, Rings: ring(9)},
		{ID: "never", Expected: true},
		{ID: "elsewhere", Since: left, Gone: true, Rings: map[string]string{"other": "g6-0123456789ab"}},
	}
	s := subject{what: "k", scope: "default", last: 7, holds: func(g uint64) bool { return g >= 5 && g <= 7 }}
	received, unknown := receivedBefore(s, gone, []api.Received{{Node: "back"}}, nil)
	got := ""
	for _, r := range received {
		got += fmt.Sprintf("%s %s %s %s; ", r.Node, r.State, r.Version, r.At.Format(time.DateOnly))
	}
	const want = "had gone g6-0123456789ab 2026-11-20; leaving away g5-0123456789ab 2026-11-20; "
	if got != want {
		t.Errorf("received by %q, want %q", got, want)
	}
	if text := strings.Join(unknown, "\n"); !strings.Contains(text, "later (gone since 2026-11-20T03:00:00Z)") ||
		strings.Contains(text, "before (") || strings.Contains(text, "elsewhere (") {
		t.Errorf("not known: %q", text)
	}

	// Which certificates a node had is not kept.
	received, unknown = receivedBefore(subject{what: "a.example"}, gone, []api.Received{{Node: "back"}}, nil)
	if text := strings.Join(unknown, "\n"); len(received) != 0 || !strings.Contains(text, "had (gone since") ||
		!strings.Contains(text, "leaving (away since") || strings.Contains(text, "never") ||
		strings.Contains(text, "back (") {
		t.Errorf("received by %+v; not known: %q", received, text)
	}
}
