package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/audit/storesink"
	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	kv "github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func logOf(t *testing.T, s kv.Store, replica string) *audit.Log {
	t.Helper()
	l, err := audit.New(audit.Config{Records: storesink.New(s), Replica: replica, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	return l
}

// text is the inner text of a backup of s.
func text(t *testing.T, s kv.Store) string {
	t.Helper()
	var b bytes.Buffer
	w, err := backup.NewWriter(&b, time.Now())
	must(t, err)
	for key, err := range s.Keys(t.Context(), "") {
		must(t, err)
		val, _, err := s.Get(t.Context(), key)
		must(t, err)
		must(t, w.Record(key, val))
	}
	must(t, w.Close())
	return b.String()
}

// lives runs a replica's coordinator on s until the end is called.
func lives(t *testing.T, s kv.Store, replica string) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	c := fleet.New(fleet.Config{
		Store: s, Replica: replica,
		Scopes: map[string]rotation.Policy{"default": rotation.DefaultPolicy()}, Refresh: time.Second, Shared: true,
		Self: fleet.Peer{Admin: "http://127.0.0.1:1"}, Wake: func(string, []uint64) {},
		Announce: func(string, rotation.Line, string) {}, Log: slog.New(slog.DiscardHandler),
	})
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	return func() { cancel(); must(t, <-done) }
}

func TestARestoreWithoutLockstepdWaitsForReplicasAndIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := memory.New(), memory.New()
		end := lives(t, from, "gone")
		synctest.Wait()
		end()
		_, err := logOf(t, from, "gone").Append(t.Context(), audit.Entry{What: "before"})
		must(t, err)
		whole := text(t, from)

		stop := lives(t, to, "r1")
		time.Sleep(time.Minute)
		_, err = restoreInto(t.Context(), to, logOf(t, to, "offline"), true, strings.NewReader(whole), false)
		var e exit
		if !errors.As(err, &e) || e.code != exitRefused || !strings.Contains(err.Error(), "r1 (http://127.0.0.1:1") {
			t.Errorf("beside a live replica: %v", err)
		}
		if n := lines(t, to); n != 0 {
			t.Errorf("%d lines of what was refused", n)
		}
		if r, err := restoreInto(t.Context(), to, logOf(t, to, "offline"), true,
			strings.NewReader(whole), true); err != nil || !r.Plan {
			t.Errorf("a plan beside it: %v", err)
		}
		stop()
		time.Sleep(31 * time.Second)
		if _, err := restoreInto(t.Context(), to, logOf(t, to, "offline"), true,
			strings.NewReader(whole), false); err != nil {
			t.Fatal(err)
		}
		said(t, to, 2, "restore", "restored ring/default")
		if _, err := restoreInto(t.Context(), to, logOf(t, to, "offline"), true,
			strings.NewReader(whole), false); err != nil {
			t.Fatal(err)
		}
		said(t, to, 2, "restore", "restored ring/default") // nothing was changed

		// Into a new place: the backup's log comes back, and goes on.
		fresh := memory.New()
		if _, err := restoreInto(t.Context(), fresh, logOf(t, fresh, "offline"), false,
			strings.NewReader(whole), false); err != nil {
			t.Fatal(err)
		}
		said(t, fresh, 3, "before", "restore", "restored ring/default")

		// What cannot be written down is not done.
		full := &unwritable{Store: memory.New()}
		if _, err := restoreInto(t.Context(), full, logOf(t, full, "offline"), false, strings.NewReader(whole),
			false); !errors.Is(err, audit.ErrUnwritten) {
			t.Errorf("%v", err)
		}
		if _, _, err := full.Get(t.Context(), "ring/default"); !errors.Is(err, kv.ErrNotExist) {
			t.Errorf("it was restored all the same: %v", err)
		}
	})
}

// unwritable takes no line beyond those that a backup brings back.
type unwritable struct{ kv.Store }

func (u *unwritable) Swap(ctx context.Context, key string, old kv.Rev, val []byte) (kv.Rev, error) {
	if key == "audit/head" && old != 0 {
		return 0, io.ErrShortWrite
	}
	return u.Store.Swap(ctx, key, old, val)
}

func lines(t *testing.T, s kv.Store) int {
	t.Helper()
	all, err := logOf(t, s, "reader").Lines(t.Context(), 100)
	must(t, err)
	return len(all)
}

func said(t *testing.T, s kv.Store, n int, want ...string) {
	t.Helper()
	all, err := logOf(t, s, "reader").Lines(t.Context(), 100)
	must(t, err)
	var got []string
	for _, l := range all {
		got = append(got, strings.TrimSpace(l.What+" "+l.Name))
	}
	if len(got) != n || strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("the audit log says %q, want %q", got, want)
	}
	if v, err := logOf(t, s, "reader").Verify(t.Context(), nil); err != nil || len(v.Problems) > 0 {
		t.Errorf("the audit log: %+v, %v", v, err)
	}
}
