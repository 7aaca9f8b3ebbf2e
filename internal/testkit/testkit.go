// Package testkit has what tests of several rooms need and that belongs to none of them.
package testkit

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Check ends the test if err is not nil.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Until waits until is returns nil, for 10 s at most. Then it ends the test with the last error.
func Until(t testing.TB, is func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Tree returns every file below a folder, with mode, time and digest, so that two of them differ if
// anything was changed between.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	Check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, st.Mode(), st.ModTime().UnixNano())
		if st.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%d %x %v\n", len(text), sha256.Sum256(text), err)
		}
		return nil
	}))
	return b.String()
}
