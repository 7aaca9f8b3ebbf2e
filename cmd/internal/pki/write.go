package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

type file struct {
	name string
	b    []byte
	mode fs.FileMode
}

// write writes files into dir, each whole or not at all, in their order. It makes dir if that is
// missing. Without force it writes nothing if one of them is there.
func write(dir string, force bool, files ...file) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if _, err := os.Lstat(path); !force && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s %w", path, ErrExists)
		}
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := atomicfile.Write(path, f.b, f.mode); err != nil {
			return err
		}
	}
	return nil
}
