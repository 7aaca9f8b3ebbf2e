package seal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-tls/lockstep/seal"
	"pgregory.net/rapid"
)

func create(t *testing.T) (*seal.Sealer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seal.json")
	s, err := seal.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

func load(path string) (*seal.Sealer, error) { return seal.Load(context.Background(), seal.File(path)) }

func TestRoundTrip(t *testing.T) {
	s, path := create(t)
	loaded, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		plain, ad := rapid.SliceOf(rapid.Byte()).Draw(t, "plain"), rapid.SliceOf(rapid.Byte()).Draw(t, "ad")
		sealed, err := s.Seal(plain, ad)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := loaded.Open(sealed, ad); err != nil || !bytes.Equal(got, plain) || got == nil {
			t.Fatalf("opened as %q, %v", got, err)
		}
		if _, err := loaded.Open(sealed, append(ad, 0)); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("opened under other associated data: %v", err)
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "i")] ^= 0x40
		if _, err := loaded.Open(sealed, ad); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("changed bytes opened: %v", err)
		}
	})
}

func TestTheSameValueIsSealedDifferentlyEachTime(t *testing.T) {
	s, _ := create(t)
	a, _ := s.Seal([]byte("v"), nil)
	b, _ := s.Seal([]byte("v"), nil)
	if bytes.Equal(a, b) {
		t.Fatal("a nonce was used twice")
	}
}

func TestAnotherKeysetDoesNotOpen(t *testing.T) {
	a, _ := create(t)
	b, _ := create(t)
	sealed, _ := a.Seal([]byte("v"), []byte("ad"))
	if _, err := b.Open(sealed, []byte("ad")); !errors.Is(err, seal.ErrOpen) {
		t.Fatalf("opened with another key: %v", err)
	}
}

func TestCreateWritesAFileOfItsOwnerAndNeverOverwrites(t *testing.T) {
	_, path := create(t)
	before, _ := os.ReadFile(path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if _, err := seal.Create(path); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Create over a file = %v, want fs.ErrExist that names it", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("files left behind: %v", left)
	}
	if !bytes.Contains(before, []byte("AesGcmKey")) {
		t.Errorf("not an AES-GCM keyset")
	}
}

func TestLoadRefusesWhatOthersMayOpen(t *testing.T) {
	_, path := create(t)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := load(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %04o: %v, want the line to type", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := load(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
}

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.json")
	if _, err := load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load of nothing = %v, want fs.ErrNotExist", err)
	}
	type result struct {
		s   *seal.Sealer
		err error
	}
	all := make(chan result, 8)
	for range cap(all) { // at once: all must get the keyset that is in the file
		go func() {
			s, err := seal.LoadOrCreate(context.Background(), seal.File(path))
			all <- result{s, err}
		}()
	}
	var sealed []byte
	for range cap(all) {
		r := <-all
		if r.err != nil {
			t.Fatal(r.err)
		}
		if sealed == nil {
			sealed, _ = r.s.Seal([]byte("v"), nil)
		}
		if _, err := r.s.Open(sealed, nil); err != nil {
			t.Error("two callers got two keysets")
		}
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.LoadOrCreate(context.Background(), seal.File(path)); err == nil {
		t.Error("a damaged keyset was replaced, or accepted")
	}
	if b, _ := os.ReadFile(path); string(b) != "{}" {
		t.Error("a damaged keyset was overwritten")
	}
}

func TestNoErrorHoldsKeyMaterial(t *testing.T) {
	s, path := create(t)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Key []struct{ KeyData struct{ Value string } }
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	secret := file.Key[0].KeyData.Value
	for name, damaged := range map[string]string{
		"cut short":    string(b[:len(b)-20]),
		"bad base64":   strings.Replace(string(b), secret, secret+"!", 1),
		"as a number":  strings.Replace(string(b), `"`+secret+`"`, secret, 1),
		"short key":    strings.Replace(string(b), secret, secret[:8], 1),
		"other type":   strings.Replace(string(b), "AesGcmKey", "HmacKey", 1),
		"disabled":     strings.Replace(string(b), "ENABLED", "DISABLED", 1),
		"only the key": secret,
		"empty":        "",
	} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := load(path)
		if err == nil || strings.Contains(err.Error(), secret[:8]) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names the file and no key", name, err)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "sealer", s)
	for _, said := range []string{fmt.Sprintf("%v %+v %#v %s", s, s, s, s), log.String()} {
		if strings.Count(said, "sealing keyset") < 1 || strings.Contains(said, "aead") {
			t.Errorf("prints as %q", said)
		}
	}
}

func TestLoadOfADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := load(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("Load(directory) = %v", err)
	}
}

func TestALockThatIsNotGivenBackIsAnError(t *testing.T) {
	s, path := create(t)
	synctest.Test(t, func(t *testing.T) {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stage(t.Context()); !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), dir.Name()) || !strings.Contains(err.Error(), "fuser") {
			t.Errorf("%v, want one that names the directory and the next step", err)
		}
		time.AfterFunc(time.Second, func() { dir.Close() })
		if _, err := s.Stage(t.Context()); err != nil {
			t.Errorf("given back after a second: %v", err)
		}
	})
}
