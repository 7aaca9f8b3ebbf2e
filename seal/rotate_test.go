package seal_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/seal"
)

func ok[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRotationInThreeSteps(t *testing.T) {
	s, path := create(t)
	other := ok(load(path))(t) // another replica with the same file
	first := s.State().Primary
	old := ok(s.Seal([]byte("old"), []byte("ad")))(t)

	st := ok(s.Stage(t.Context()))(t)
	if st.Primary != first || len(st.Staged) != 1 || len(st.Old) != 0 {
		t.Fatalf("staged: %+v", st)
	}
	if again := ok(s.Stage(t.Context()))(t); !slices.Equal(again.Staged, st.Staged) {
		t.Errorf("a second key was staged: %+v", again)
	}
	if v := ok(s.Seal([]byte("v"), nil))(t); !s.Current(v) || ok(load(path))(t).State().Staged[0] != st.Staged[0] {
		t.Error("a staged key seals already, or was not saved")
	}

	st = ok(s.Promote(t.Context(), st.Staged[0]))(t)
	if st.Primary == first || !slices.Equal(st.Old, []seal.KeyID{first}) || len(st.Staged) != 0 {
		t.Fatalf("promoted: %+v", st)
	}
	fresh := ok(s.Seal([]byte("new"), []byte("ad")))(t)
	if s.Current(old) || !s.Current(fresh) || !s.Knows(old) {
		t.Error("who sealed what is mistaken")
	}
	if got := ok(s.Open(old, []byte("ad")))(t); string(got) != "old" {
		t.Errorf("an old value opens as %q", got)
	}
	if s.Prove(fresh, []byte("ad")) != nil || !errors.Is(s.Prove(old, []byte("ad")), seal.ErrOpen) {
		t.Error("Prove is not about the primary key alone")
	}
	if other.Knows(fresh) {
		t.Fatal("the other replica has read its file already")
	}
	if got := ok(other.Open(fresh, []byte("ad")))(t); string(got) != "new" || other.State().Primary != st.Primary {
		t.Errorf("the other replica did not read its file again: %q, %+v", got, other.State())
	}

	if _, err := s.Retire(t.Context(), first); !errors.Is(err, seal.ErrRefused) {
		t.Errorf("Retire with a key that seals no more = %v", err)
	}
	st = ok(s.Retire(t.Context(), st.Primary))(t)
	if len(st.All()) != 1 || slices.Contains(st.All(), first) {
		t.Fatalf("retired: %+v", st)
	}
	if _, err := s.Open(old, []byte("ad")); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a retired key opens: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("files left behind: %v", left)
	}
}

func TestConcurrentStagesEndWithOneKey(t *testing.T) {
	_, path := create(t)
	var all sync.WaitGroup
	for range 8 {
		s := ok(load(path))(t)
		all.Go(func() {
			if _, err := s.Stage(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if st := ok(load(path))(t).State(); len(st.All()) != 2 {
		t.Errorf("%+v", st)
	}
}

// counting counts how often its source is read.
type counting struct {
	seal.Keys
	reads int
}

func (c *counting) Load(ctx context.Context) ([]byte, error) { c.reads++; return c.Keys.Load(ctx) }

func TestUnknownValuesHaveTheSourceReadOnceASecond(t *testing.T) {
	s, path := create(t)
	stranger, _ := create(t)
	known := ok(s.Seal([]byte("v"), nil))(t)
	known[len(known)-1] ^= 1
	unknown := ok(stranger.Seal([]byte("v"), nil))(t)
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Keys: seal.File(path)}
		s := ok(seal.Load(t.Context(), c))(t)
		for range 50 {
			s.Open(known, nil) // changed, by a key that is known
		}
		if c.reads != 1 {
			t.Errorf("a changed value had the source read %d times", c.reads-1)
		}
		for range 50 {
			s.Open(unknown, nil)
			s.Open([]byte("in the clear"), nil)
		}
		time.Sleep(time.Second)
		s.Open(unknown, nil)
		if c.reads != 3 {
			t.Errorf("unknown values had the source read %d times, want 2", c.reads-1)
		}
	})
}

func TestABrokenSourceLeavesTheLastGoodKeyset(t *testing.T) {
	s, path := create(t)
	good := ok(os.ReadFile(path))(t)
	v := ok(s.Seal([]byte("v"), nil))(t)
	for name, harm := range map[string]func() error{
		"half":    func() error { return os.WriteFile(path, good[:len(good)/2], 0o600) },
		"absent":  func() error { return os.Remove(path) },
		"open up": func() error { return errors.Join(os.WriteFile(path, good, 0o600), os.Chmod(path, 0o644)) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if changed, err := s.Reload(t.Context()); err == nil || changed || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
		if _, err := s.Open(v, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Stage(t.Context()); err == nil {
			t.Errorf("%s: staged", name)
		}
		os.Remove(path)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSources(t *testing.T) {
	_, path := create(t)
	b := ok(os.ReadFile(path))(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kek"), b, 0o440); err != nil {
		// as systemd's ACL shows
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("LOCKSTEP_TEST_KEK",
		base64.StdEncoding.EncodeToString(b)[:40]+"\n"+base64.StdEncoding.EncodeToString(b)[40:]+"\n")
	var sealed []byte
	for _, setting := range []string{path, "credential:kek", "env:LOCKSTEP_TEST_KEK"} {
		k, err := seal.Source(setting)
		if err != nil {
			t.Fatal(err)
		}
		s := ok(seal.LoadOrCreate(t.Context(), k))(t)
		if sealed == nil {
			sealed = ok(s.Seal([]byte("v"), nil))(t)
		} else {
			if _, err := s.Stage(t.Context()); !errors.Is(err, seal.ErrReadOnly) ||
				!strings.Contains(err.Error(), "by hand") || !strings.Contains(err.Error(), k.String()) {
				t.Errorf("%s: Stage = %v, want the way to do it by hand", setting, err)
			}
		}
		if _, err := s.Open(sealed, nil); err != nil {
			t.Errorf("%s: %v", setting, err)
		}
		if changed, err := s.Reload(t.Context()); changed || err != nil {
			t.Errorf("%s: Reload = %v, %v", setting, changed, err)
		}
	}
	if v, ok := os.LookupEnv("LOCKSTEP_TEST_KEK"); ok {
		t.Errorf("the variable is still set, to %d bytes", len(v))
	}
	t.Setenv("LOCKSTEP_TEST_BAD", "n0t base64 s3cret!")
	for setting, want := range map[string]string{
		"env:LOCKSTEP_TEST_KEK":   "is not set",
		"env:LOCKSTEP_TEST_BAD":   "not base64",
		"env:":                    "no variable",
		"credential:":             "one file name",
		"credential:../kek":       "one file name",
		"credential:..":           "one file name",
		"credential:nope":         "nope",
		"":                        "no source",
		filepath.Join(dir, "not"): "no such file",
	} {
		k, err := seal.Source(setting)
		if err == nil {
			_, err = seal.Load(t.Context(), k)
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, want %q", setting, err, want)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := seal.Source("credential:kek"); err == nil || !strings.Contains(err.Error(), "LoadCredential") {
		t.Errorf("outside of systemd: %v", err)
	}
}

func TestAReadOnlyFileSaysHowToRotateByHand(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write anywhere")
	}
	s, path := create(t)
	if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o700) })
	if _, err := s.Stage(t.Context()); !errors.Is(err, seal.ErrReadOnly) || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("%v", err)
	}
}

func TestASymlinkIsFollowedWhenTheKeysetIsSaved(t *testing.T) {
	s, path := create(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	st := ok(ok(load(link))(t).Stage(t.Context()))(t)
	if info := ok(os.Lstat(link))(t); info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if changed, err := s.Reload(t.Context()); !changed || err != nil || s.State().Staged[0] != st.Staged[0] {
		t.Errorf("%v %v", changed, err)
	}
}
