package dir

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

// scan looks at every folder and file by stat, and reads what changed: names that were asked for
// at once, the rest later. It alone decides that a name is new or gone.
func (d *Dir) scan(w *watcher, first bool) {
	begun := time.Now()
	d.scans++
	d.rootDirty, d.soon = false, time.Time{}
	clear(d.dirty)
	w.watch(d.log, d.root)

	entries, err := os.ReadDir(d.root)
	if err != nil {
		entries = nil
	}
	r := round{bad: map[string]string{}}
	all, files := entryNames(entries), []string(nil)
	for _, e := range entries {
		if !isFolder(d.root, e) {
			if layout.MayMatter(e.Name()) {
				files = append(files, e.Name())
			}
			continue
		}
		if layout.Program(e.Name(), all) {
			continue
		}
		folder := filepath.Join(d.root, e.Name())
		n, err := hostName(folder)
		if err != nil {
			r.bad[e.Name()] = err.Error()
			continue
		}
		d.foundHost(&r, n, place{folder: folder})
	}
	flat, bad := layout.FindFlat(files)
	maps.Copy(r.bad, bad)
	for _, f := range flat {
		d.foundHost(&r, f.Name, place{filepath.Join(d.root, f.Chain), f.Files})
	}
	d.findMissing(err, first, begun)
	d.report(r.bad)
	for _, folder := range r.watch {
		w.watch(d.log, folder)
	}
	for _, h := range r.now {
		d.look(h)
	}
	d.backlog = r.later // also has what was left of the old one, since its signature still differs
	if d.saveFailed {
		d.saveFailed = false
		d.mu.Lock()
		d.unsaved = true
		d.mu.Unlock()
	}
	d.scanning = time.Since(begun)
}

// round is what a scan found.
type round struct {
	bad        map[string]string
	watch      []string // folders of hosts that were asked for
	now, later []*host  // changed
}

// foundHost notes that n has its files at at.
func (d *Dir) foundHost(r *round, n keysource.Name, at place) {
	sig := at.signature()
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.hosts[n]
	switch {
	case h == nil:
		h = &host{name: n}
		d.hosts[n] = h
		delete(d.recentlyGone, n)
		d.unsaved = true
		d.wake(h)
	case h.seen == d.scans:
		r.bad[filepath.Base(at.folder)] = fmt.Sprintf("is %s again, which %s is already: remove one", n,
			filepath.Base(h.folder))
		return
	case h.held:
		h.held, h.problem = false, ""
		d.noted(Change{Name: n, What: Back})
		d.log.Info("certificate is back, and no longer held", "name", n)
		d.wake(h)
	}
	h.seen, h.folder, h.flat, h.gone = d.scans, at.folder, at.flat, time.Time{}
	if h.asked && h.flat == (layout.Files{}) { // the directory itself is watched
		r.watch = append(r.watch, at.folder)
	}
	switch {
	case sig == h.sig && sig != signature{}:
	case h.asked:
		r.now = append(r.now, h)
	default:
		r.later = append(r.later, h)
	}
}

// report replaces the list of folders that have no name. Each is logged once.
func (d *Dir) report(bad map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for folder, why := range bad {
		if d.bad[folder] != why {
			d.log.Warn("folder ignored", "folder", filepath.Join(d.root, folder), "error", why)
		}
	}
	d.bad = bad
}

// startWatching watches a host that was asked for the first time, and looks whether it changed
// before the watch began.
func (d *Dir) startWatching(w *watcher, h *host) {
	at := d.placeOf(h)
	if at.flat == (layout.Files{}) {
		w.watch(d.log, at.folder)
	}
	sig := at.signature()
	d.mu.Lock()
	changed := sig == (signature{}) || sig != h.sig
	d.mu.Unlock()
	if changed {
		d.look(h)
	}
}

func (d *Dir) placeOf(h *host) place {
	d.mu.Lock()
	defer d.mu.Unlock()
	return place{h.folder, h.flat}
}

// isFolder reports whether e is a folder or a link to one. Hidden entries (the "..data" of
// Kubernetes) and plain files are ignored. A link that leads nowhere counts: the folder is being
// replaced, or it is a problem to show.
func isFolder(root string, e fs.DirEntry) bool {
	if strings.HasPrefix(e.Name(), ".") {
		return false
	}
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	fi, err := os.Stat(filepath.Join(root, e.Name()))
	return err != nil || fi.IsDir()
}

// hostName returns the name whose certificate a folder has.
func hostName(folder string) (keysource.Name, error) {
	return layout.Host(filepath.Base(folder), func(file string) bool {
		_, err := os.Stat(filepath.Join(folder, file))
		return err == nil
	})
}
