package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

type file struct {
	name string
	b    []byte
	mode fs.FileMode
}

// write puts files into dir, which is made if it is missing, each by one rename, in this order: the key first. Unless force is set nothing is
// written if any of them is there.
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
		tmp, err := os.CreateTemp(dir, "."+f.name+"-*") // 0600
		if err != nil {
			return err
		}
		_, err = tmp.Write(f.b)
		err = errors.Join(err, tmp.Chmod(f.mode), tmp.Sync(), tmp.Close())
		if err == nil {
			err = os.Rename(tmp.Name(), path)
		}
		if err != nil {
			os.Remove(tmp.Name())
			return err
		}
	}
	return nil
}
