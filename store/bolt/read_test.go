package bolt

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A store that was opened to read gives its values, takes no change, and leaves the file as it is.
// It is not opened beside a process that writes.
func TestAStoreIsOpenedToRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for range 2 {
		if s, err := OpenToRead(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("there is no store: %v %v", s, err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil { // and then an empty file
			t.Fatal(err)
		}
	}
	s := open(t, path)
	put(t, s, "a", 0, []byte("value"))
	if _, err := OpenToRead(path); !errors.Is(err, ErrInUse) {
		t.Errorf("beside a writer: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenToRead(path)
	if err != nil {
		t.Fatal(err)
	}
	if val, _, err := r.Get(t.Context(), "a"); err != nil || string(val) != "value" {
		t.Errorf("%q %v", val, err)
	}
	if _, err := r.Swap(t.Context(), "b", 0, []byte("x")); err == nil {
		t.Error("it takes a change")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file has changed: %v", err)
	}
}
