package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A sparse file of a few bytes stands for any number: archives as GNU tar makes them, in each of
// its forms.
func TestASparseFileIsRefused(t *testing.T) {
	tool, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("there is no tar")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a.example"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "a.example", chainFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteAt([]byte("end"), 512<<20); err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range [][]string{
		{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"},
		{"--format=posix", "--sparse-version=1.0"},
	} {
		b, err := exec.Command(tool, append(form, "--sparse", "-C", dir, "-cf", "-", ".")...).Output()
		if err != nil || len(b) > 1<<20 {
			t.Skipf("tar makes no sparse archive: %d bytes, %v", len(b), err)
		}
		var got error
		for p, err := range Tar(bytes.NewReader(b), "it") {
			if got = err; err == nil {
				t.Errorf("%v: %q with %d bytes", form, p.Folder, p.Size())
			}
		}
		if got == nil || !strings.Contains(got.Error(), `it: "./a.example/tls.crt" has holes`) {
			t.Errorf("%v: %v", form, got)
		}
	}
}

func TestLongNamesCountAmongWhatWaits(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 100 {
		write(t, w, fmt.Sprintf("%s%d/tls.crt", strings.Repeat("x", 10_000), i), "")
	}
	w.Close()
	r := newReader(&b)
	r.most = 500_000
	var err error
	for err == nil {
		_, err = r.next()
	}
	if err == io.EOF || !strings.Contains(err.Error(), "folder by folder") {
		t.Errorf("names of 1 MB wait in memory: %v", err)
	}
}

func TestOnlyRegularFilesOfADirectoryAreRead(t *testing.T) {
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	var failed error
	try := func(err error) {
		if failed == nil {
			failed = err
		}
	}
	for _, folder := range []string{"a", "b", "c", "..2024/d", "e"} {
		try(os.MkdirAll(at(folder), 0o700))
		try(os.WriteFile(at(folder, keyFile), []byte("k"), 0o600))
	}
	try(syscall.Mkfifo(at("a", chainFile), 0o600))
	try(os.Symlink("/dev/zero", at("b", chainFile)))
	try(os.Mkdir(at("c", chainFile), 0o700))
	// as in a Kubernetes volume: links to links
	try(os.WriteFile(at("..2024/d", "crt"), []byte("c"), 0o600))
	try(os.Symlink("crt", at("..2024/d", chainFile)))
	try(os.Symlink("..2024", at("..data")))
	try(os.Symlink("..data/d", at("d")))
	try(syscall.Mkfifo(at("pipe"), 0o600))
	try(os.WriteFile(at("e", chainFile), []byte("c"), 0o600))
	if failed != nil {
		t.Fatal(failed)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	done := make(chan []string, 1)
	go func() {
		var got []string
		for p, err := range Dir(f) {
			got = append(got, fmt.Sprint(p.Folder, " ",
				p.Err != nil && strings.Contains(p.Err.Error(), "no regular file"), " ", p.Err == nil, " ", err))
		}
		done <- got
	}()
	select {
	case got := <-done:
		want := "a true false <nil>, b true false <nil>, c true false <nil>, d false true <nil>, e false true <nil>"
		if strings.Join(got, ", ") != want {
			t.Errorf("%q, want %s", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a pipe without a writer is waited for")
	}
}
