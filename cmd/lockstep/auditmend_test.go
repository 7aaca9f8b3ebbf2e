package main

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/seal"
)

// In the data directory of a lockstepd that is stopped, as it is in one that runs.
func TestADamagedAuditLogIsMendedWithoutLockstepd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	opened := func() *stores.Vault {
		t.Helper()
		raw, err := stores.Open(t.Context(), dir)
		must(t, err)
		v, err := stores.Unlock(t.Context(), raw, seal.File(filepath.Join(dir, stores.KeyFile)), true)
		must(t, err)
		return v
	}
	v := opened()
	for range 5 {
		_, err := logOf(t, v, "r1").Append(t.Context(), audit.Entry{What: "test"})
		must(t, err)
	}
	_, rev, err := v.Raw.Get(t.Context(), "audit/head")
	must(t, err)
	_, err = v.Raw.Swap(t.Context(), "audit/head", rev, []byte("damaged"))
	must(t, err)
	must(t, v.Close())
	if got := run(t.Context(), []string{"--data-dir", dir, "audit", "mend"}, nil, io.Discard, io.Discard); got != 0 {
		t.Fatalf("exit code %d", got)
	}
	if got := run(t.Context(), []string{"--data-dir", dir, "audit", "mend"}, nil,
		io.Discard, io.Discard); got != exitRefused {
		t.Errorf("again: exit code %d, want %d", got, exitRefused)
	}
	v = opened()
	defer v.Close()
	l := logOf(t, v, "r1")
	_, err = l.Append(t.Context(), audit.Entry{What: "test"})
	must(t, err)
	lines, err := l.Lines(t.Context(), 10)
	must(t, err)
	if len(lines) != 2 || lines[0].What != "audit-broken" || lines[0].Replica != "offline-mend" {
		t.Errorf("%+v", lines)
	}
	r, err := l.Verify(t.Context(), nil)
	must(t, err)
	if len(r.Problems) != 1 || r.Problems[0].Fault != "missing" {
		t.Errorf("%+v", r)
	}
}
