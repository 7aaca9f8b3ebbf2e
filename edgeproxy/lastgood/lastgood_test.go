package lastgood

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/seal"
)

func keeper(t *testing.T, dir string) *Keeper {
	t.Helper()
	s, err := seal.LoadOrCreate(t.Context(), seal.File(filepath.Join(dir, "sealing.key")))
	check(t, err)
	k, err := Open(dir, s)
	check(t, err)
	return k
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ring(generation uint64, keys ...keysource.TicketKey) map[string]keysource.Ring {
	return map[string]keysource.Ring{"default": {Generation: generation, Keys: keys}}
}

func TestWhatWasKeptComesBack(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, dir)
	none, err := k.Rings()
	check(t, err)
	if len(none.Rings) != 0 {
		t.Errorf("%v in an empty directory", none.Rings)
	}
	want := Rings{At: time.Now().UTC().Truncate(time.Microsecond),
		Rings: ring(7, keysource.NewTicketKey(), keysource.NewTicketKey())}
	check(t, k.SaveRings(want))
	certs := map[keysource.Name]keysource.PEM{"shop.example": {Chain: []byte("chain"),
		Key: []byte("the private key of shop.example")}}
	check(t, k.SaveCertificates(map[keysource.Name]keysource.Certificate{"shop.example": {PEM: certs["shop.example"]}}))

	k = keeper(t, dir)
	got, err := k.Rings()
	check(t, err)
	if !got.At.Equal(want.At) || !reflect.DeepEqual(got.Rings, want.Rings) {
		t.Error("other rings come back")
	}
	back, err := k.Certificates()
	check(t, err)
	if !reflect.DeepEqual(back, certs) {
		t.Error("other certificates come back")
	}
	// Nothing lies there in the clear.
	files, err := os.ReadDir(dir)
	check(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		check(t, err)
		for _, secret := range [][]byte{want.Rings["default"].Keys[0][16:], certs["shop.example"].Key} {
			if bytes.Contains(b, secret) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString(secret)[:20])) {
				t.Errorf("%s holds a secret", f.Name())
			}
		}
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if len(files) != 3 { // no temporary file is left
		t.Errorf("%d files", len(files))
	}
}

func TestADamagedCopyIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, dir)
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(1, keysource.NewTicketKey())}))
	check(t, k.SaveCertificates(map[keysource.Name]keysource.Certificate{
		"shop.example": {PEM: keysource.PEM{Key: []byte("key")}}}))
	rings, certs := k.path(ringsFile), k.path(certsFile)
	good, err := os.ReadFile(rings)
	check(t, err)
	other, err := os.ReadFile(certs)
	check(t, err)
	damaged := map[string][]byte{"empty": {}, "of another file": other}
	for _, at := range []int{0, 1, 5, len(good) / 2, len(good) - 1} {
		flipped := bytes.Clone(good)
		flipped[at] ^= 1
		damaged["changed at "+string(rune('0'+at%10))] = flipped
		damaged["cut at "+string(rune('0'+at%10))] = good[:at]
	}
	for what, b := range damaged {
		check(t, os.WriteFile(rings, b, 0o600))
		got, err := keeper(t, dir).Rings()
		if !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), rings) || len(got.Rings) != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	check(t, os.WriteFile(rings, good, 0o600))
	check(t, os.Remove(filepath.Join(dir, "sealing.key")))
	if _, err := keeper(t, dir).Rings(); !errors.Is(err, ErrBad) {
		t.Errorf("another sealing key: %v", err)
	}
}

func TestABurntKeyInACopyIsRefused(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, dir)
	burnt, fresh := keysource.NewTicketKey(), keysource.NewTicketKey()
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(1, burnt)}))
	old, err := os.ReadFile(k.path(ringsFile))
	check(t, err)
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(2, fresh)}))
	got, err := keeper(t, dir).Rings()
	check(t, err)
	if got.Rings["default"].Keys[0] != fresh {
		t.Error("another ring")
	}
	check(t, os.WriteFile(k.path(ringsFile), old, 0o600)) // somebody puts yesterday's back
	got, err = keeper(t, dir).Rings()
	if !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), burnt.ID()) || len(got.Rings) != 0 {
		t.Errorf("%v", err)
	}
	// The control plane may say otherwise: a rollback brings a key back.
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(3, burnt, fresh)}))
	if _, err := keeper(t, dir).Rings(); err != nil {
		t.Error(err)
	}
}

func TestARestartBetweenTwoRingsForgetsNoSpentKey(t *testing.T) {
	dir := t.TempDir()
	a, b := keysource.NewTicketKey(), keysource.NewTicketKey()
	k := keeper(t, dir)
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(1, a)}))
	old, err := os.ReadFile(k.path(ringsFile))
	check(t, err)
	k = keeper(t, dir) // it has read the copy, as each start does, before it is given another ring
	if _, err := k.Rings(); err != nil {
		t.Fatal(err)
	}
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(2, b)}))
	check(t, os.WriteFile(k.path(ringsFile), old, 0o600))
	if _, err := keeper(t, dir).Rings(); !errors.Is(err, ErrBad) {
		t.Error("the key of the ring before the restart is not known as spent")
	}
}

// A key is spent as soon as Spend says so, whatever becomes of the copy: the process may be killed
// before it is written.
func TestWhatHasLeftARingIsSpentBeforeTheCopyIsWritten(t *testing.T) {
	dir := t.TempDir()
	burnt, fresh := keysource.NewTicketKey(), keysource.NewTicketKey()
	k := keeper(t, dir)
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(1, burnt, fresh)}))
	k = keeper(t, dir)
	if _, err := k.Rings(); err != nil {
		t.Fatal(err)
	}
	check(t, k.Spend("default", ring(2, fresh)["default"]))
	if got, err := keeper(t, dir).Rings(); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), burnt.ID()) ||
		len(got.Rings) != 0 {
		t.Errorf("%v", err)
	}
}

// A disk that was full when a key left is written to when it is not.
func TestASpentKeyThatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	dir := t.TempDir()
	burnt, fresh := keysource.NewTicketKey(), keysource.NewTicketKey()
	k := keeper(t, dir)
	check(t, k.SaveRings(Rings{At: time.Now(), Rings: ring(1, burnt)}))
	old, err := os.ReadFile(k.path(ringsFile))
	check(t, err)
	check(t, os.Mkdir(k.path(spentFile), 0o700)) // nothing can be renamed to that
	next := Rings{At: time.Now(), Rings: ring(2, fresh)}
	if err := k.SaveRings(next); !errors.Is(err, ErrBad) {
		t.Fatal(err)
	}
	check(t, os.Remove(k.path(spentFile)))
	check(t, k.SaveRings(next))
	check(t, os.WriteFile(k.path(ringsFile), old, 0o600))
	if _, err := keeper(t, dir).Rings(); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), burnt.ID()) {
		t.Errorf("%v", err)
	}
}
