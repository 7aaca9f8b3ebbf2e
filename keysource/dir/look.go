package dir

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// Look reads a directory once, as Run does at its start, and returns what [Dir.List] would. A
// problem is believed after a second look, which waits a second: files may just be replaced. The
// error is that of Run if the directory cannot be read. Nothing is watched, and nothing is logged.
func Look(ctx context.Context, root string) ([]Entry, error) {
	d := New(Config{Dir: root})
	d.scan(&watcher{}, true)
	if err := d.neverRead(); err != nil {
		return nil, err
	}
	var again []*host
	for _, h := range d.backlog {
		if d.look(h) != nil {
			again = append(again, h)
		}
	}
	if len(again) > 0 || len(d.bad) > 0 {
		select {
		case <-time.After(secondLook):
		case <-ctx.Done():
			return nil, fmt.Errorf("reading %s: %w", filepath.Clean(root), ctx.Err())
		}
		d.scan(&watcher{}, false)
		for _, h := range d.backlog {
			_ = d.look(h) // it is a problem of the entry
		}
	}
	return d.List(), nil
}

// Readable returns the error of [Look], without a look at any certificate.
func Readable(root string) error {
	d := New(Config{Dir: root})
	d.scan(&watcher{}, true)
	return d.neverRead()
}
