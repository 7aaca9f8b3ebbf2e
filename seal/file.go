package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// maxFile is how many bytes are read at most. A key takes about 250.
const maxFile = 1 << 20

// File keeps a keyset in a file that only its owner may read. It refuses a file that group or
// others may open. Processes on one machine that save at the same time take turns. The file is
// whole at every moment.
func File(path string) Keys { return file{path} }

type file struct{ path string }

func (f file) String() string { return "file " + f.path }

func (f file) Load(context.Context) ([]byte, error) {
	o, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	info, err := o.Stat() // of what was opened, not of what the path names by now
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("others may open the sealing key (mode %04o): chmod 600 %s", mode, f.path)
	}
	return io.ReadAll(io.LimitReader(o, maxFile))
}

func (f file) Save(ctx context.Context, old, b []byte) error {
	// Otherwise the link would be replaced, and not its target.
	if target, err := filepath.EvalSymlinks(f.path); err == nil {
		f.path = target
	}
	err := f.save(ctx, old, b)
	for _, readOnly := range []error{unix.EROFS, unix.EACCES, unix.EPERM} {
		if errors.Is(err, readOnly) {
			return fmt.Errorf("%w (%w); %s", ErrReadOnly, err, byHand)
		}
	}
	return err
}

func (f file) save(ctx context.Context, old, b []byte) error {
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close() // this also releases the lock
	if err := lock(ctx, dir); err != nil {
		return err
	}
	have, err := f.Load(ctx)
	switch {
	case old == nil && err == nil:
		return fs.ErrExist
	case old == nil && !errors.Is(err, fs.ErrNotExist), old != nil && err != nil:
		return err
	case old != nil && !bytes.Equal(have, old):
		return ErrConflict
	}
	if old != nil {
		return atomicfile.Write(f.path, b, 0o600)
	}
	return atomicfile.Create(f.path, b, 0o600) // a file that was put there without the lock stays
}

// Another process that changes a keyset takes milliseconds.
const (
	lockWithin = 5 * time.Second
	lockAgain  = 10 * time.Millisecond
)

// lock takes the lock of the directory. Closing dir releases it.
func lock(ctx context.Context, dir *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockWithin)
	defer cancel()
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", dir.Name(), err)
		}
		select {
		case <-time.After(lockAgain):
		case <-ctx.Done():
			return fmt.Errorf("lock %s: another process holds it (%w): it is a lockstepd or lockstep that hangs "+
				"while it changes a keyset there: `fuser %[1]s` names it; "+
				"end it, and try again", dir.Name(), ctx.Err())
		}
	}
}
