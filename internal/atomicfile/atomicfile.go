// Package atomicfile writes files whole or not at all.
//
// The content goes to a temporary file beside the target, named ".<name>-<random>". That file is
// synced, gets its mode, and takes the target's place. Then the folder is synced.
//
// So a reader sees the old content or the new one. Once a function has returned nil, a crash of the
// machine does not undo it. After an error from before the renaming the target is as it was, and
// the temporary file is gone. A process that is killed may leave the temporary file behind.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file at path by one with this content and mode.
func Write(path string, content []byte, mode fs.FileMode) error {
	return WriteWith(path, mode, bytesOf(content))
}

// WriteWith replaces the file at path by one of this mode with what write writes. An error of write
// is returned as it is.
func WriteWith(path string, mode fs.FileMode, write func(io.Writer) error) error {
	return put(path, mode, write, os.Rename)
}

// Create makes a file with this content and mode. It is an error that wraps [fs.ErrExist] if there
// is one already.
func Create(path string, content []byte, mode fs.FileMode) error {
	return put(path, mode, bytesOf(content), func(tmp, path string) error {
		if err := os.Link(tmp, path); err != nil {
			return err
		}
		return os.Remove(tmp)
	})
}

// SyncDir makes what was made, renamed or removed in a folder last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(sync(d), d.Close())
}

func bytesOf(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
}

func put(path string, mode fs.FileMode, write func(io.Writer) error, place func(tmp, path string) error) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name()) // gone already if it was placed
		}
	}()
	if err = write(tmp); err == nil {
		err = errors.Join(tmp.Chmod(mode), sync(tmp))
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err = place(tmp.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// sync is a variable so that a test sees what is synced, and when.
var sync = (*os.File).Sync
