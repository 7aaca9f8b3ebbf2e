package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

// alwaysReady is a closed channel: a select with it does not wait.
var alwaysReady = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Run watches the directory until ctx ends, and then returns nil. If the directory cannot be read
// and no names are known from an earlier run, it returns an error at once: a mistyped path must
// not look like an empty directory. It must be called only once.
func (d *Dir) Run(ctx context.Context) error {
	if !d.loadKnown(ctx) {
		return nil
	}
	w, err := d.open()
	if err != nil {
		d.log.Warn("no inotify: changes of certificates are found by the rescan alone", "every", d.rescan, "error",
			err)
		w = &watcher{}
	}
	defer w.close()

	d.scan(w, true)
	if err := d.neverRead(); err != nil {
		return err
	}
	close(d.ready)

	rescan := time.Now().Add(d.rescan)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		d.passOn(ctx, w)
		var work <-chan struct{}
		if len(d.backlog) > 0 {
			work = alwaysReady
		}
		timer.Reset(time.Until(d.next(rescan)))
		select {
		case <-ctx.Done():
			return nil
		case <-d.wakeup:
		case ev := <-w.events():
			d.note(w, ev)
		case <-w.errors(): // mostly an overflow: look at everything
			d.rootDirty = true
			d.hasten()
		case <-work:
			h := d.backlog[0]
			d.backlog = d.backlog[1:]
			d.look(h)
		case <-timer.C:
			if d.doDue(w, rescan) {
				rescan = time.Now().Add(d.rescan)
			}
		}
	}
}

// next returns when the timer must fire.
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

// doDue does what is due, and reports whether it looked at everything.
func (d *Dir) doDue(w *watcher, rescan time.Time) bool {
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
		for _, h := range d.takeTouched() {
			d.look(h)
		}
	}
	return false
}

// takeTouched returns the hosts whose folders inotify named, and empties the set of these.
func (d *Dir) takeTouched() (hosts []*host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for folder := range d.dirty {
		n, err := hostName(folder)
		if err != nil {
			continue
		}
		for _, h := range []*host{d.hosts[n], d.hosts[n.Second()]} {
			if h != nil && h.folder == folder && !slices.Contains(hosts, h) {
				hosts = append(hosts, h)
			}
		}
	}
	clear(d.dirty)
	return hosts
}

// passOn passes on what has happened: hosts to watch go to inotify, changes to Changed, names to
// Known.
func (d *Dir) passOn(ctx context.Context, w *watcher) {
	d.mu.Lock()
	fresh, woken := d.fresh, slices.Sorted(maps.Keys(d.woken))
	d.fresh = nil
	clear(d.woken)
	d.mu.Unlock()
	for _, h := range fresh {
		d.startWatching(w, h)
	}
	if len(woken) > 0 {
		d.changed(woken)
	}
	d.save(ctx)
}

// loadKnown loads the names of last time. It tries until it has them, since without them a loss
// looks like an empty directory.
func (d *Dir) loadKnown(ctx context.Context) bool {
	for d.known != nil {
		names, err := d.known.Load(ctx)
		if err == nil {
			d.mu.Lock()
			for _, n := range names {
				d.hosts[n] = &host{name: n, folder: filepath.Join(d.root, layout.Folder(n))}
			}
			d.mu.Unlock()
			break
		}
		d.log.Error("cannot load the names of certificates known from last time: trying again, none is served "+
			"until then", "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d.rescan):
		}
	}
	return true
}

// save saves the names in Known. If that fails it is tried again after the next scan.
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
		d.log.Error("cannot save the names of the certificates: a loss at the next start may go unnoticed", "error",
			err)
		d.saveFailed = true
	}
}

// neverRead returns the error of a directory that cannot be read and never was.
func (d *Dir) neverRead() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unread != nil && len(d.hosts) == 0 {
		if errors.Is(d.unread, fs.ErrPermission) {
			return fmt.Errorf("certificates: %w: let lockstepd's user read it, or have a hook copy what is renewed "+
				"(deploy/certbot, deploy/acme.sh)", d.unread)
		}
		return fmt.Errorf("certificates: %w: create the directory or correct its path (--certs)", d.unread)
	}
	return nil
}
