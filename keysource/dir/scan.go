package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
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
	for _, e := range entries {
		if !isFolder(d.root, e) {
			continue
		}
		n, err := hostName(e.Name())
		if err != nil {
			r.bad[e.Name()] = err.Error()
			continue
		}
		folder := filepath.Join(d.root, e.Name())
		sig, _ := stat(folder) // a failure has the zero signature, and is looked at
		d.foundFolder(&r, n, folder, sig)
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

// foundFolder notes that n has a folder.
func (d *Dir) foundFolder(r *round, n keysource.Name, folder string, sig signature) {
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
		r.bad[filepath.Base(folder)] = fmt.Sprintf("is %s again, which %s is already: remove one", n,
			filepath.Base(h.folder))
		return
	case h.held:
		h.held, h.problem = false, ""
		d.noted(Change{Name: n, What: Back})
		d.log.Info("certificate is back, and no longer held", "name", n)
		d.wake(h)
	}
	h.seen, h.folder, h.gone = d.scans, folder, time.Time{}
	if h.asked {
		r.watch = append(r.watch, folder)
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
	w.watch(d.log, h.folder)
	sig, _ := stat(h.folder)
	d.mu.Lock()
	changed := sig == (signature{}) || sig != h.sig
	d.mu.Unlock()
	if changed {
		d.look(h)
	}
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
	if strings.HasPrefix(folder, "*") {
		return "", errors.New("a wildcard's folder is written _.example.com")
	}
	if rest, ok := strings.CutPrefix(folder, "_."); ok {
		folder = "*." + rest
	}
	return keysource.ServerName(folder)
}

// folderName is the inverse of hostName.
func folderName(n keysource.Name) string {
	if rest, ok := strings.CutPrefix(string(n), "*."); ok {
		return "_." + rest
	}
	return string(n)
}
