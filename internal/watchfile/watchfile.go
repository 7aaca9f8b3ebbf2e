// Package watchfile keeps the value of files that may change at any time, such as a policy or a
// certificate with its key.
//
// A value is loaded from the content of one file, or of several that belong together. While the
// files cannot be used, the last good value stays in force, and the reason can be asked for. A
// file has changed if its content has: a new time alone loads nothing. The package does not log
// and starts no goroutine. The caller decides when to look: by [Watched.Look] at times of its own,
// by [Watched.LookAfter] when somebody needs the value, or by [Watched.Run].
//
// It knows files, and nothing of what stands in them.
package watchfile

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// File is one file as it was read.
type File struct {
	Path  string
	Bytes []byte
	Err   error // why it could not be read
}

// Watched is the value of one or more files. All methods are safe for concurrent use.
type Watched[T any] struct {
	paths []string
	load  func([]File) (T, error)

	turn   sync.Mutex // one look at a time
	looked time.Time  // when the last look began; with turn
	sums   []sum      // of the files that the value was loaded from; with turn

	mu               sync.Mutex
	now              T
	err              error
	loaded, rejected uint64
}

// sum identifies the content of a file. A copy of the content would keep private keys in memory.
type sum [sha256.Size]byte

// Open reads the files for the first time. They must give a value, else the error of load is
// returned as it is. Load gets the files in the order of paths. It is called at each look at
// which the files differ from those of the value in force, one call at a time, and may call Now.
func Open[T any](load func([]File) (T, error), paths ...string) (*Watched[T], error) {
	w := &Watched[T]{paths: paths, load: load}
	w.Look()
	if err := w.Err(); err != nil {
		return nil, err
	}
	return w, nil
}

// Path returns the first of the paths.
func (w *Watched[T]) Path() string { return w.paths[0] }

// Now returns the value in force.
func (w *Watched[T]) Now() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// Err returns why the files, as they stood at the last look, are not in force. It is nil while
// they are.
func (w *Watched[T]) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Counts returns how often a value came into force, and how often files were rejected. Looks that
// find the same fault again are not counted.
func (w *Watched[T]) Counts() (loaded, rejected uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loaded, w.rejected
}

// Look reads the files, and reports whether another value is in force since then. If the files
// cannot be used, fault is the reason, unless the look before found the same one.
func (w *Watched[T]) Look() (changed bool, fault error) {
	w.turn.Lock()
	defer w.turn.Unlock()
	return w.look()
}

// LookAfter is Look if the last look began age ago or earlier, else it does nothing. A call during
// a look waits for the end of it.
func (w *Watched[T]) LookAfter(age time.Duration) (changed bool, fault error) {
	w.turn.Lock()
	defer w.turn.Unlock()
	if time.Since(w.looked) < age {
		return false, nil
	}
	return w.look()
}

func (w *Watched[T]) look() (changed bool, fault error) {
	w.looked = time.Now()
	files, sums := read(w.paths)
	if sums != nil && slices.Equal(sums, w.sums) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = nil
		return false, nil
	}
	v, err := w.load(files)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if w.err == nil || w.err.Error() != err.Error() {
			w.rejected++
			fault = err
		}
		w.err = err
		return false, fault
	}
	w.now, w.err, w.sums = v, nil, sums
	w.loaded++
	return true, nil
}

// read returns the files and their sums. It returns no sums if one could not be read.
func read(paths []string) (files []File, sums []sum) {
	whole := true
	for _, path := range paths {
		b, err := os.ReadFile(path)
		files = append(files, File{path, b, err})
		sums = append(sums, sha256.Sum256(b))
		whole = whole && err == nil
	}
	if !whole {
		return files, nil
	}
	return files, sums
}

// settle is how long a file may take to be written after inotify named it.
const settle = 20 * time.Millisecond

// Run calls look at the start, each interval, and soon after something changed in the folder of
// the first file, until ctx ends. The folder is watched since the file may be replaced, or be a
// link that is (a Kubernetes volume). Run calls blind if there is no inotify.
func (w *Watched[T]) Run(ctx context.Context, interval time.Duration, look, blind func()) {
	var events <-chan fsnotify.Event
	if fs, err := fsnotify.NewWatcher(); err == nil {
		defer fs.Close()
		if err = fs.Add(filepath.Dir(w.paths[0])); err == nil {
			events = fs.Events
		}
	}
	if events == nil {
		blind()
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	soon := time.After(0) // the file may have changed before it was watched
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				events = nil
			} else if soon == nil {
				soon = time.After(settle)
			}
			continue
		case <-soon:
			soon = nil
		case <-tick.C:
		}
		look()
	}
}
