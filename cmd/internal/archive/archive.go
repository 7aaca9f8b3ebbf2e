// Package archive reads certificates in great numbers, from a directory or a tar archive. Each
// stands there as <server name>/tls.crt (chain, PEM, leaf first) and <server name>/tls.key (PEM). A
// wildcard's folder is _.example.com. Files of other names and hidden folders, such as the "..data"
// of a Kubernetes volume, are left out.
//
// It checks no certificate. It bounds what it keeps in memory, since an archive comes from outside.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

const (
	chainFile = "tls.crt"
	keyFile   = "tls.key"
)

// maxFile bounds what is read of one file. A file of this size is refused when it is parsed.
const maxFile = 1<<20 + 1

// Pair is what one folder holds, or why it cannot be read.
type Pair struct {
	Folder string
	keysource.PEM
	Err error
}

// Size returns the size of both files, in bytes.
func (p Pair) Size() int { return len(p.Chain) + len(p.Key) }

// Name returns the server name that the folder stands for. The error wraps [keysource.ErrBadName],
// or says how the folder is to be named.
func (p Pair) Name() (keysource.Name, error) {
	name := p.Folder
	if rest, ok := strings.CutPrefix(name, "_."); ok {
		name = "*." + rest
	} else if strings.HasPrefix(name, "*") {
		return "", errors.New("a wildcard's folder is written _.example.com")
	}
	return keysource.ServerName(name)
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
