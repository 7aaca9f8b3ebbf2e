package dir

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/lockstep-tls/lockstep/keysource/layout"
)

// watcher is inotify on the directory, and on the folders of names that were asked for. The zero
// value watches nothing. Run's goroutine owns it.
type watcher struct {
	fs  *fsnotify.Watcher
	add func(path string) error
	// dirs holds, by path, what the path led to when it was watched. A link that was swapped needs
	// a new watch.
	dirs map[string]fileID
	full bool // the kernel has no more watches, and that was logged
}

func openWatcher() (*watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &watcher{fs: fs, add: fs.Add, dirs: map[string]fileID{}}, nil
}

// watch makes sure that path is watched, through links. What fails is left to the rescan.
func (w *watcher) watch(log *slog.Logger, path string) {
	if w.fs == nil {
		return
	}
	fi, err := os.Stat(path)
	if err != nil {
		w.forget(path)
		return
	}
	id := identify(fi)
	id.size, id.mtime = 0, 0 // these change with every entry
	if w.dirs[path] == id {
		return
	}
	w.forget(path)
	switch err := w.add(path); {
	case err == nil:
		w.dirs[path] = id
	case errors.Is(err, syscall.ENOSPC) && !w.full:
		w.full = true
		log.Warn("the kernel has no more inotify watches (sysctl fs.inotify.max_user_watches): some changes of "+
			"certificates are found by the rescan alone", "at", path)
	}
}

func (w *watcher) forget(path string) {
	if _, ok := w.dirs[path]; ok {
		delete(w.dirs, path)
		_ = w.fs.Remove(path) // already gone if the folder is
	}
}

func (w *watcher) events() <-chan fsnotify.Event {
	if w.fs == nil {
		return nil
	}
	return w.fs.Events
}

func (w *watcher) errors() <-chan error {
	if w.fs == nil {
		return nil
	}
	return w.fs.Errors
}

func (w *watcher) close() {
	if w.fs != nil {
		w.fs.Close()
	}
}

// note takes an event. It says where to look, not what to believe.
func (d *Dir) note(w *watcher, ev fsnotify.Event) {
	if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
		// The watched folder itself went. Its watch is dead, even if the next folder gets its
		// inode.
		w.forget(ev.Name)
	}
	// A marked file may be that of a second certificate that is new.
	if dir := filepath.Dir(ev.Name); dir == d.root || ev.Name == d.root || layout.Marked(filepath.Base(ev.Name)) {
		d.rootDirty = true
	} else {
		d.dirty[dir] = struct{}{}
	}
	d.hasten()
}

// hasten sets the time to look at what inotify named. That is soon, but scans of a directory that
// changes all the time must leave time for other work.
func (d *Dir) hasten() {
	if !d.soon.IsZero() {
		return
	}
	wait := burst
	if d.rootDirty {
		wait = max(wait, 4*d.scanning)
	}
	d.soon = time.Now().Add(wait)
}
