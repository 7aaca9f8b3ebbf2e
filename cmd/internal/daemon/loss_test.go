package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/xds"
)

// What a store has lost is written back from what is sent, if it came from there, and under the name under which it was there.
func TestWhatTheStoreHadIsWrittenBackAndNothingElse(t *testing.T) {
	files, ours := filepath.Join(t.TempDir(), "certs"), t.TempDir()
	certify(t, files, "file.example")
	r := start(t, func(c *config.Config) { c.Certs, c.Refresh = files, time.Hour })
	put := func(name, folder string) {
		chain, err := os.ReadFile(filepath.Join(ours, folder, "tls.crt"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile(filepath.Join(ours, folder, "tls.key"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.certs.Put(t.Context(), keysource.Name(name), keysource.PEM{Chain: chain, Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	certify(t, ours, "own.example")
	certify(t, ours, "*.shop.example", "a.shop.example", "other.example") // it covers more names than the one under which it is stored
	put("own.example", "own.example")
	put("*.shop.example", "*.shop.example")
	box := xds.NewMailbox()
	node := xds.Node{ID: "n", Stream: 1, Service: xds.ADS}
	for _, name := range []string{"file.example", "own.example", "a.shop.example", "B.shop.example"} {
		r.table.Watch(node, name, box)
		defer r.table.Unwatch(node, name, box)
		until(t, func() error {
			if _, state := r.table.Lookup(node, name); state != xds.Present {
				return fmt.Errorf("%s: %v", name, state)
			}
			return nil
		})
	}
	names := func() (all []string) {
		for e, err := range r.certs.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(e.Name))
		}
		return all
	}
	before := names()
	for _, n := range before { // under the catalog, so that the table goes on sending them
		key := store.Key("cert", n)
		_, rev, err := r.data.store.Get(t.Context(), key)
		if err == nil {
			_, err = r.data.store.Swap(t.Context(), key, rev, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.writeBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := names(); !slices.Equal(after, before) || len(after) != 2 {
		t.Errorf("the store has %q, had %q", after, before)
	}
}

var errDown = errors.New("the disk is on fire")

func TestALossIsWrittenDownOnceAndRepairedUntilItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := memory.New()
		var tries, fails atomic.Int64
		l := newLosses(s, func(context.Context) error { return nil }, func(ctx context.Context) error {
			tries.Add(1)
			if end, ok := ctx.Deadline(); !ok || time.Until(end) > repairWithin {
				t.Error("a try is not bounded")
			}
			if fails.Add(-1) >= 0 {
				return errDown
			}
			return nil
		}, slog.New(slog.DiscardHandler))
		if at, err := l.Since(ctx); err != nil || !at.IsZero() {
			t.Fatalf("%v %v", at, err)
		}
		fails.Store(3)
		_ = l.look(fmt.Errorf("reading: %w", store.ErrLost)) // while everything is still being wired
		time.Sleep(time.Minute)
		if tries.Load() != 0 {
			t.Fatal("repaired before anything runs")
		}
		done := make(chan error)
		go func() { done <- l.run(ctx) }()
		time.Sleep(repairAgain * 5 / 2)
		if err := l.doubt(ctx, "a.example"); err == nil || !strings.Contains(err.Error(), "being filled") {
			t.Errorf("while it is repaired: %v", err)
		}
		time.Sleep(time.Minute)
		if n := tries.Load(); n != 4 || l.pending.Load() {
			t.Fatalf("%d tries", n)
		}
		at, err := l.Since(ctx)
		if err != nil || at.IsZero() {
			t.Fatalf("%v %v", at, err)
		}
		for range 3 { // rotation saw the same
			if err := l.Found(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.doubt(ctx, "a.example"); err == nil || !strings.Contains(err.Error(), "cert rm --confirm") {
			t.Errorf("while the record stands: %v", err)
		}
		if said := l.stands(ctx); !strings.Contains(said, at.UTC().Format(time.RFC3339)) || !strings.Contains(said, "cert rm --confirm") {
			t.Errorf("status says %q", said)
		}
		time.Sleep(time.Minute)
		if again, _ := l.Since(ctx); tries.Load() != 4 || !again.Equal(at) {
			t.Errorf("%d tries; found at %v, then %v", tries.Load(), at, again)
		}
		if err := forgetLoss(ctx, l); err != nil {
			t.Fatal(err)
		}
		if err := l.doubt(ctx, "a.example"); err != nil {
			t.Errorf("once it was given up: %v", err)
		}
		if said := l.stands(ctx); said != "" {
			t.Errorf("once it was given up, status says %q", said)
		}
		if err := l.Found(ctx); err != nil { // another loss
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if at, err := l.Since(ctx); tries.Load() != 5 || at.IsZero() || err != nil {
			t.Errorf("%d tries, %v %v", tries.Load(), at, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A record of a loss that cannot be read is one: it is written anew, with a time from which steps are held, and it can be given up.
func TestADamagedRecordOfALossIsWrittenAnewAndCanBeGivenUp(t *testing.T) {
	keys, err := seal.LoadOrCreate(t.Context(), seal.File(filepath.Join(t.TempDir(), "key")))
	if err != nil {
		t.Fatal(err)
	}
	for how, damage := range map[string]func(raw, sealed store.Store, rev store.Rev) error{
		"does not open": func(raw, _ store.Store, rev store.Rev) error {
			_, err := raw.Swap(t.Context(), lostKey, rev, []byte("x"))
			return err
		},
		"is no JSON": func(_, sealed store.Store, rev store.Rev) error {
			_, err := sealed.Swap(t.Context(), lostKey, rev, []byte("{"))
			return err
		},
	} {
		t.Run(how, func(t *testing.T) {
			raw := memory.New()
			sealed := store.Sealed(raw, keys)
			l := newLosses(sealed, func(context.Context) error { return nil }, func(context.Context) error { return nil }, slog.New(slog.DiscardHandler))
			spoil := func() {
				t.Helper()
				rev, err := l.mark(t.Context())
				if err == nil {
					err = damage(raw, sealed, rev)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			spoil()
			if err := l.doubt(t.Context(), "a.example"); err == nil || !strings.Contains(err.Error(), "cert rm --confirm") {
				t.Errorf("while it cannot be read: %v", err)
			}
			if err := l.Found(t.Context()); err != nil {
				t.Errorf("found again: %v", err)
			}
			spoil()
			at, err := l.Since(t.Context())
			if err != nil || time.Since(at).Abs() > time.Minute {
				t.Errorf("%v %v, want the time at which it was written anew", at, err)
			}
			if again, err := l.Since(t.Context()); err != nil || !again.Equal(at) {
				t.Errorf("%v, then %v %v", at, again, err)
			}
			spoil()
			if err := forgetLoss(t.Context(), l); err != nil {
				t.Errorf("it cannot be given up: %v", err)
			}
			if r, _, err := lost(t.Context(), l); err != nil || r != nil {
				t.Errorf("once it was given up: %+v %v", r, err)
			}
		})
	}
}
