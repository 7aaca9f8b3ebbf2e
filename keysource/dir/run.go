package dir

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// idle is always ready: a select that includes it does not wait.
var idle = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Run watches the directory until ctx ends, and then returns nil. It returns an error at once if the directory cannot be read and no
// names are known from an earlier run: a mistyped path should not look like an empty directory. To be called once.
func (d *Dir) Run(ctx context.Context) error {
	if !d.remember(ctx) {
		return nil
	}
	w, err := d.open()
	if err != nil {
		d.log.Warn("no inotify: changes of certificates are found by the rescan alone", "every", d.rescan, "error", err)
		w = &watcher{}
	}
	defer w.close()

	d.scan(w, true)
	if err := d.hopeless(); err != nil {
		return err
	}
	close(d.ready)

	rescan := time.Now().Add(d.rescan)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		d.tell(ctx, w)
		var work <-chan struct{}
		if len(d.backlog) > 0 {
			work = idle
		}
		timer.Reset(time.Until(d.next(rescan)))
		select {
		case <-ctx.Done():
			return nil
		case <-d.kick:
		case ev := <-w.events():
			d.note(w, ev)
		case <-w.errors(): // an overflow, mostly: look at everything
			d.rootDirty = true
			d.hasten()
		case <-work:
			h := d.backlog[0]
			d.backlog = d.backlog[1:]
			d.look(h)
		case <-timer.C:
			if d.turn(w, rescan) {
				rescan = time.Now().Add(d.rescan)
			}
		}
	}
}

// next is when the timer must fire.
func (d *Dir) next(at time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range []time.Time{d.soon, d.again} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// turn does what is due, and reports whether it looked at everything.
func (d *Dir) turn(w *watcher, rescan time.Time) bool {
	now := time.Now()
	due := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	d.mu.Lock()
	again := due(d.again)
	d.mu.Unlock()
	if due(rescan) || again || due(d.soon) && d.rootDirty {
		d.scan(w, false)
		return true
	}
	if due(d.soon) {
		d.soon = time.Time{}
		for _, h := range d.touched() {
			d.look(h)
		}
	}
	return false
}

// touched empties the set of folders that inotify named.
func (d *Dir) touched() (hosts []*host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for folder := range d.dirty {
		n, err := hostName(filepath.Base(folder))
		if h := d.hosts[n]; err == nil && h != nil && h.folder == folder {
			hosts = append(hosts, h)
		}
	}
	clear(d.dirty)
	return hosts
}

// tell passes on what has come up: hosts to watch to inotify, changes to Changed, names to Known.
func (d *Dir) tell(ctx context.Context, w *watcher) {
	d.mu.Lock()
	fresh, woken := d.fresh, slices.Sorted(maps.Keys(d.woken))
	d.fresh = nil
	clear(d.woken)
	d.mu.Unlock()
	for _, h := range fresh {
		d.attend(w, h)
	}
	if len(woken) > 0 {
		d.changed(woken)
	}
	d.save(ctx)
}

// remember loads the names of last time; it tries until it has them, since without them a loss cannot be told from an empty directory.
func (d *Dir) remember(ctx context.Context) bool {
	for d.known != nil {
		names, err := d.known.Load(ctx)
		if err == nil {
			d.mu.Lock()
			for _, n := range names {
				d.hosts[n] = &host{name: n, folder: filepath.Join(d.root, folderName(n))}
			}
			d.mu.Unlock()
			break
		}
		d.log.Error("cannot load the names of certificates known from last time: trying again, none is served until then", "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d.rescan):
		}
	}
	return true
}

// save tells Known; what fails is tried again after the next scan.
func (d *Dir) save(ctx context.Context) {
	d.mu.Lock()
	due := d.unsaved
	d.unsaved = false
	names := []keysource.Name{}
	if due && d.known != nil {
		names = slices.Sorted(maps.Keys(d.hosts))
	}
	d.mu.Unlock()
	if !due || d.known == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.rescan)
	defer cancel()
	if err := d.known.Save(ctx, names); err != nil && ctx.Err() != context.Canceled {
		d.log.Error("cannot save the names of the certificates: a loss at the next start may go unnoticed", "error", err)
		d.saveFailed = true
	}
}

// hopeless is the error of a directory that cannot be read and never was.
func (d *Dir) hopeless() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unread != nil && len(d.hosts) == 0 {
		return fmt.Errorf("certificates: %w: create the directory or correct its path (--certs)", d.unread)
	}
	return nil
}
