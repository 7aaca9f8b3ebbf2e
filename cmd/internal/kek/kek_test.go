package kek

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/seal"
)

func TestASourceThatCannotBeWrittenSaysWhatToType(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if _, err := seal.Create(filepath.Join(dir, "kek")); err != nil {
		t.Fatal(err)
	}
	keys, err := Source("credential:kek")
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.Load(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Stage(t.Context())
	want := "rotate by hand: `lockstep kek rotate --file COPY` on a copy"
	if !errors.Is(err, seal.ErrReadOnly) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q in it", err, want)
	}
}

func TestAFileThatCanBeWrittenIsChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	if _, err := seal.Create(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.Load(t.Context(), File(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) == string(before) {
		t.Errorf("the file is as before, %v", err)
	}
}
