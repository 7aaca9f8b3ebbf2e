package guard

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func TestALossyStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return NewLossy(memory.New(), func(context.Context) error { return nil }, slog.New(slog.DiscardHandler))
	})
}

// emptied is a store that has lost its content.
type emptied struct{ store.Store }

func (emptied) SwapAll(_ context.Context, changes []store.Change) []store.Outcome {
	return []store.Outcome{{Err: store.ErrLost}}
}

func (emptied) GetAll(context.Context, []string) []store.Value {
	return []store.Value{{Err: store.ErrLost}}
}

func (emptied) Get(context.Context, string) ([]byte, store.Rev, error) { return nil, 0, store.ErrLost }

func (emptied) Swap(context.Context, string, store.Rev, []byte) (store.Rev, error) {
	return 0, store.ErrLost
}

func (emptied) Changed(context.Context, string, store.Rev) ([]string, store.Rev, error) {
	return nil, 0, store.ErrLost
}

func (emptied) Keys(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", store.ErrLost) }
}

func (e emptied) KeysAfter(ctx context.Context, _, _ string) iter.Seq2[string, error] {
	return e.Keys(ctx, "")
}

func (emptied) Now(context.Context) (time.Time, error) { return time.Time{}, store.ErrLost }

func TestALossIsNoticedByWhateverCallFindsIt(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, s store.Store){
		"Get":     func(ctx context.Context, s store.Store) { s.Get(ctx, "a") },
		"GetAll":  func(ctx context.Context, s store.Store) { s.GetAll(ctx, []string{"a"}) },
		"Swap":    func(ctx context.Context, s store.Store) { s.Swap(ctx, "a", 0, nil) },
		"SwapAll": func(ctx context.Context, s store.Store) { s.SwapAll(ctx, []store.Change{{Key: "a"}}) },
		"Changed": func(ctx context.Context, s store.Store) { s.Changed(ctx, "", 0) },
		"Now":     func(ctx context.Context, s store.Store) { s.Now(ctx) },
		"Keys": func(ctx context.Context, s store.Store) {
			for range s.Keys(ctx, "") {
			}
		},
		"KeysAfter": func(ctx context.Context, s store.Store) {
			for range s.KeysAfter(ctx, "", "") {
			}
		},
	} {
		l := NewLossy(emptied{}, nil, slog.New(slog.DiscardHandler))
		if call(t.Context(), l); !l.Filling() {
			t.Errorf("%s did not notice it", name)
		}
	}
}

var errDown = errors.New("the disk is on fire")

func TestALossIsWrittenDownOnceAndRepairedUntilItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := memory.New()
		var tries, fails atomic.Int64
		l := NewLossy(s, func(ctx context.Context) error {
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
		l.look(fmt.Errorf("reading: %w", store.ErrLost)) // while everything is still being wired
		time.Sleep(time.Minute)
		if tries.Load() != 0 {
			t.Fatal("repaired before anything runs")
		}
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(repairAgain * 5 / 2)
		if !l.Filling() {
			t.Error("it is not known that the store is being filled again")
		}
		time.Sleep(time.Minute)
		if n := tries.Load(); n != 4 || l.Filling() {
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
		if r, err := l.Stands(ctx); err != nil || r == nil || !r.At.Equal(at) {
			t.Errorf("while the record stands: %+v %v", r, err)
		}
		time.Sleep(time.Minute)
		if again, _ := l.Since(ctx); tries.Load() != 4 || !again.Equal(at) {
			t.Errorf("%d tries; found at %v, then %v", tries.Load(), at, again)
		}
		if err := ForgetLoss(ctx, l); err != nil {
			t.Fatal(err)
		}
		if r, err := l.Stands(ctx); err != nil || r != nil {
			t.Errorf("once it was given up: %+v %v", r, err)
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

// A record of a loss that cannot be read means a loss. It is written anew, with a time from which
// steps are held. It can be given up.
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
			sealed := Sealed(raw, keys)
			l := NewLossy(sealed, func(context.Context) error { return nil }, slog.New(slog.DiscardHandler))
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
			if r, err := l.Stands(t.Context()); err != nil || r == nil || !r.At.IsZero() {
				t.Errorf("while it cannot be read: %+v %v", r, err)
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
			if err := ForgetLoss(t.Context(), l); err != nil {
				t.Errorf("it cannot be given up: %v", err)
			}
			if r, _, err := lost(t.Context(), l); err != nil || r != nil {
				t.Errorf("once it was given up: %+v %v", r, err)
			}
		})
	}
}
