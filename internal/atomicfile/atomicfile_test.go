package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// watch notes what is synced, and what stood at path then.
func watch(t *testing.T, path string) *[]string {
	var seen []string
	real := sync
	t.Cleanup(func() { sync = real })
	sync = func(f *os.File) error {
		at, err := os.ReadFile(path)
		if err != nil {
			at = []byte("nothing")
		}
		what := "the file"
		if st, err := f.Stat(); err != nil {
			t.Error(err)
		} else if st.IsDir() {
			what = "the folder"
		}
		seen = append(seen, fmt.Sprintf("%s while there is %s", what, at))
		return real(f)
	}
	return &seen
}

func TestTheFileIsSyncedBeforeItCountsAndItsFolderAfterwards(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"Write":     func(path string) error { return Write(path, []byte("new"), 0o640) },
		"WriteWith": func(path string) error { return WriteWith(path, 0o640, bytesOf([]byte("new"))) },
		"Create":    func(path string) error { return Create(path, []byte("new"), 0o640) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			old := "nothing"
			if name != "Create" {
				old = "old"
				if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			seen := watch(t, path)
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			if want := []string{
				"the file while there is " + old, "the folder while there is new",
			}; !slices.Equal(*seen, want) {
				t.Errorf("synced %q, want %q", *seen, want)
			}
			alone(t, path, "new", 0o640)
		})
	}
}

func TestWhatFailsLeavesTheFileAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space")
	if err := WriteWith(path, 0o644,
		func(w io.Writer) error { w.Write([]byte("ha")); return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	alone(t, path, "old", 0o600)
	if err := Create(path, []byte("new"), 0o644); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	alone(t, path, "old", 0o600)
	real := sync
	t.Cleanup(func() { sync = real })
	sync = func(*os.File) error { return full }
	if err := Write(path, []byte("new"), 0o644); !errors.Is(err, full) {
		t.Error(err)
	}
	alone(t, path, "old", 0o600)
	if err := Write(filepath.Join(path, "f"), nil, 0o600); err == nil {
		t.Error("written below a file")
	}
}

// alone: path holds that, and nothing is left beside it.
func alone(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != content {
		t.Errorf("%q, %v; want %q", b, err, content)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != mode {
		t.Errorf("%v, %v; want mode %v", st.Mode(), err, mode)
	}
	all, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(all) != 1 {
		t.Errorf("beside it: %v, %v", all, err)
	}
}
