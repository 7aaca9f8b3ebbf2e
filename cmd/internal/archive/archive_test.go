package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

func write(t testing.TB, w *tar.Writer, name, text string) {
	t.Helper()
	if err := w.WriteHeader(&tar.Header{
		Name: name, Size: int64(len(text)), Mode: 0o600, Typeflag: tar.TypeReg,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestAnArchiveReadsBackAsItWasWritten(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var want []Pair
	for i := range 50 {
		p := Pair{
			Folder: fmt.Sprintf("h%d.%s.example", i, strings.Repeat("x", 4*i)),
			PEM:    keysource.PEM{Chain: bytes.Repeat([]byte{'c'}, i*100), Key: []byte("k")},
		}
		want = append(want, p)
		if err := p.Write(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	i := 0
	for p, err := range Tar(&b, "it") {
		if err != nil || p.Folder != want[i].Folder || !bytes.Equal(p.Chain, want[i].Chain) ||
			!bytes.Equal(p.Key, want[i].Key) || p.Err != nil {
			t.Fatalf("%d: %+v %v", i, p, err)
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d of %d", i, len(want))
	}
}

func TestFilesOfAFolderMayLieApartButNotTooMuch(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 3 {
		write(t, w, fmt.Sprintf("./h%d/tls.crt", i), "first")
	}
	write(t, w, "h1/tls.crt", "again")
	for _, name := range []string{"h2/tls.key", "h1/tls.key", "..data/tls.crt", "h0/README", "h9/tls.key"} {
		write(t, w, name, "key")
	}
	w.Close()
	var got []string
	for p, err := range Tar(&b, "it") {
		got = append(got, fmt.Sprintf("%s %s %s %v %v", p.Folder, p.Chain, p.Key, p.Err, err))
	}
	want := []string{"h2 first key <nil> <nil>", "h1 again key <nil> <nil>",
		"h0 first  there is no tls.key <nil>", "h9  key there is no tls.crt <nil>"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	b.Reset()
	w = tar.NewWriter(&b)
	for i := range 100 {
		write(t, w, fmt.Sprintf("h%d/tls.crt", i), strings.Repeat("x", 1000))
	}
	w.Close()
	r := newReader(&b)
	r.most = 100_000
	var err error
	for err == nil {
		_, err = r.next()
	}
	if !strings.Contains(err.Error(), "folder by folder") {
		t.Errorf("an archive whose halves lie apart waits in memory: %v", err)
	}
}

func TestADirectoryIsReadFolderByFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b/tls.crt": "c", "b/tls.key": "k", "a/tls.crt": "c", ".hidden/tls.crt": "c", "file": "x",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	for p, err := range Dir(f) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p.Folder)
		if missing := p.Folder == "a"; errors.Is(p.Err, os.ErrNotExist) != missing {
			t.Errorf("%+v", p)
		}
	}
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
}

func TestAFolderStandsForAName(t *testing.T) {
	for folder, want := range map[string]keysource.Name{
		"Shop.Example": "shop.example", "_.shop.example": "*.shop.example",
		"*.shop.example": "", "a b": "", "a/b": "", "": "",
	} {
		n, err := Pair{Folder: folder}.Name()
		if n != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", folder, n, err)
		}
	}
}

// FuzzTar: whatever the bytes, reading ends, in pairs or an error.
func FuzzTar(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	write(f, w, "a/tls.crt", "c")
	write(f, w, "a/tls.key", "k")
	w.Close()
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:700])
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, in []byte) {
		n := 0
		for p, err := range Tar(bytes.NewReader(in), "it") {
			if n++; err == nil && p.Err == nil && (p.Chain == nil || p.Key == nil) || n > len(in) {
				t.Fatalf("%d: %+v", n, p)
			}
		}
	})
}
