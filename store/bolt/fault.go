package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"
)

// What became of a change when its write failed.
const (
	notMade = "; the change was not made"
	unknown = "; the change was written, but it may not last: read it again"
)

// explain says which file failed, what to do about it, and what became of the change. A disk that
// has space again, or can be written to again, needs no reopening.
func (s *Store) explain(err error, outcome string) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	next := ""
	switch {
	case is(err, syscall.ENOSPC), is(err, syscall.EDQUOT):
		next = ": free space on " + filepath.Dir(s.path)
	case is(err, syscall.EROFS):
		next = ": make " + filepath.Dir(s.path) + " writable again"
	case is(err, syscall.EIO):
		next = ": check the disk"
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch):
		next = ": not a store file, or damaged: restore it from a backup"
	}
	return fmt.Errorf("store: %s: %w%s%s", s.path, err, next, outcome)
}

// is also knows an errno that bbolt passes on as text.
func is(err error, errno syscall.Errno) bool {
	return errors.Is(err, errno) || strings.HasSuffix(err.Error(), ": "+errno.Error())
}
