package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir makes the data directory this process's own until the file is closed. The file lock of
// the embedded store does the same. With a store elsewhere, two processes under one replica's
// name would overwrite each other's rosters.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = fmt.Errorf("it is in use by another lockstepd (%s is locked): "+
			"give each process a --data-dir of its own: %w", f.Name(), err)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
