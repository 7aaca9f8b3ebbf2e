package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// A whole record of the log, put back from yesterday while nobody ran, is found by the mark in the
// data directory, and each event names a line.
func TestAnAuditRecordPutBackIsFoundByTheMark(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	in := func(c *config.Config) { c.DataDir = dir }
	r := start(t, in)
	heads := make(chan string, 64)
	stop, err := r.bus.Subscribe(func(e events.Event) {
		if e.Kind == events.Rotation {
			heads <- e.Audit
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	yesterday, _, err := r.store.Get(t.Context(), "audit/head")
	if err != nil {
		t.Fatal(err)
	}
	ring(t, r, "n")
	if err := r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "n", Seconds: 60}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{By: "me"}); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-heads:
		if h, err := audit.ParseHead(s); err != nil || h.Number == 0 {
			t.Errorf("an event names %q: %v", s, err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no event")
	}
	testkit.Until(t, func() error {
		st, err := r.client.Status(t.Context())
		if err == nil && st.Scopes[0].Phase != "steady" {
			err = errors.New(st.Scopes[0].Phase)
		}
		return err
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	d, err := New(r.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, rev, err := d.store.Get(t.Context(), "audit/head")
	if err == nil {
		_, err = d.store.Swap(t.Context(), "audit/head", rev, yesterday)
	}
	d.Close()
	if err != nil {
		t.Fatal(err)
	}
	found, err := start(t, in).client.VerifyAudit(t.Context())
	if text := fmt.Sprintf("%+v", found); err != nil || !strings.Contains(text, "cut-off") ||
		!strings.Contains(text, "the high-water mark of replica") {
		t.Errorf("%s %v", text, err)
	}
}
