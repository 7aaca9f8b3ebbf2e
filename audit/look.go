package audit

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is how often the sinks are looked at without a line to write. So a sink that cannot be
// written is found before the next change, and one that can be written again is not called down
// until then.
const lookEvery = time.Second

// looker is a sink that can say without a line why it could not take one. It has the rules of
// write.
type looker interface{ look() error }

// watchSinks looks at the sinks until ctx ends.
func (l *Log) watchSinks(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		l.lookAtSinks(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookAtSinks has each sink that lacks lines take the line that says so. It looks at the others.
// The caller is Run.
func (l *Log) lookAtSinks(ctx context.Context) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return
	}
	if ctx.Err() != nil {
		return
	}
	ctx = context.WithoutCancel(ctx) // a stop does not make a sink fail
	lacking := false
	for _, s := range l.sinks {
		lacking = lacking || !l.marks.gap(s.chain).IsZero()
	}
	if lacking {
		store, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		if keys, err := l.keys(store); err != nil {
			l.report("store", err, Gap{})
		} else {
			l.writeSinks(ctx, store, batch{keys: keys}, l.now(store))
		}
	}
	for _, s := range l.sinks {
		k, ok := s.sink.(looker)
		if !ok {
			continue
		}
		its, cancel := context.WithTimeout(ctx, within)
		_, err := s.use(its, func(context.Context) ([]Head, error) { return nil, k.look() })
		cancel()
		l.note(s.name, func(st *state) { st.look = err })
	}
}

// LookAtFile returns why no line could be written to the file of [Config].File. It makes and
// changes nothing.
func LookAtFile(path string) error {
	st, err := os.Stat(path)
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if above, err := os.Stat(dir); err == nil && !above.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
		}
		err = unix.Access(dir, unix.W_OK|unix.X_OK)
	case err == nil && !st.Mode().IsRegular():
		return notRegular(path)
	case err == nil:
		err = unix.Access(path, unix.R_OK|unix.W_OK)
	}
	if err == nil {
		return room(path)
	}
	var full *fs.PathError
	if !errors.As(err, &full) {
		err = &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return err
}

// room returns an error if the disk of a file has no room for a line. Root may use what the file
// system keeps for root.
func room(path string) error {
	var st unix.Statfs_t
	if unix.Statfs(filepath.Dir(path), &st) != nil || st.Blocks == 0 {
		return nil // a write will show it
	}
	free := uint64(st.Bavail)
	if os.Geteuid() == 0 {
		free = uint64(st.Bfree)
	}
	if free < (maxLine+uint64(st.Bsize)-1)/uint64(st.Bsize) {
		return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	}
	return nil
}
