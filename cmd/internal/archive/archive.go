// Package archive reads certificates in great numbers, from a directory or a tar archive. Each
// stands there as <server name>/tls.crt (chain, PEM, leaf first) and <server name>/tls.key (PEM).
// Or it stands as another program lays it out (package layout). A wildcard's folder is
// _.example.com. Other files are left out, and hidden folders, such as the "..data" of a Kubernetes
// volume.
//
// It checks no certificate. It bounds what it keeps in memory, since an archive comes from outside.
package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

const (
	chainFile = layout.ChainFile
	keyFile   = layout.KeyFile
)

// maxFile bounds what is read of one file. A file of this size is refused when it is parsed.
const maxFile = 1<<20 + 1

// Pair is what one folder holds, or why it cannot be read.
type Pair struct {
	// Folder is the folder of the server name, if the one that was read has a name that only its
	// program gives.
	Folder string
	keysource.PEM
	Err error
}

// Size returns the size of both files, in bytes.
func (p Pair) Size() int { return len(p.Chain) + len(p.Key) }

// Name returns the server name that the folder stands for. The error wraps [keysource.ErrBadName],
// or says how the folder is to be named.
func (p Pair) Name() (keysource.Name, error) {
	return layout.Host(p.Folder, func(string) bool { return false })
}

// Write appends the files of p, which has no Err, to an archive that [Tar] reads.
func (p Pair) Write(w *tar.Writer) error {
	for _, f := range []struct {
		name string
		b    []byte
	}{{chainFile, p.Chain}, {keyFile, p.Key}} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: p.Folder + "/" + f.name, Size: int64(len(f.b)), Mode: 0o600}
		if err := w.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", p.Folder, err)
		}
		if _, err := w.Write(f.b); err != nil {
			return fmt.Errorf("%s: %w", p.Folder, err)
		}
	}
	return nil
}

// readSome reads a file of size bytes, or the beginning of one that is too large.
func readSome(r io.Reader, size int64) ([]byte, error) {
	b := make([]byte, min(size, maxFile))
	_, err := io.ReadFull(r, b)
	return b, err
}

// pairOf returns what was read of folder. has reports whether a file is in it. If one file holds
// chain and key, it stands for both.
func pairOf(folder string, files layout.Files, has func(string) bool, p keysource.PEM) Pair {
	out := Pair{Folder: folder, PEM: p}
	if n, err := layout.Host(folder, has); err == nil && files.Chain != chainFile {
		out.Folder = layout.Folder(n)
	}
	if files.Key == "" {
		out.Key = p.Chain
	}
	return out
}

// hasKey reports whether the file of a chain seems to hold a private key, too. UTF-16 has a zero
// between its letters.
func hasKey(chain []byte) bool {
	return bytes.Contains(bytes.ReplaceAll(chain, []byte{0}, nil), []byte("PRIVATE KEY-----"))
}
