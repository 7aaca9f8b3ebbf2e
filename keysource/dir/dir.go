// Package dir serves certificates from a directory of PEM files, and notices every change of it.
//
// The directory has one folder for each name, with "<server name>/tls.crt" (chain, leaf first) and
// "<server name>/tls.key". The folder of a wildcard is "_.example.com". Package layout knows the
// files and folders of other programs, which are taken, too. Files may be replaced by renames, by
// symlink swaps as Kubernetes does, or in place.
//
// Its rules:
//
//   - inotify is only a wake-up. Each Rescan looks at the whole directory, and that alone finds
//     everything.
//   - Files that are broken, expired, half-written or do not belong together change nothing. The
//     last good certificate of that name stays, and [Dir.List] says what is wrong.
//   - A certificate that cannot serve yet, or came without its intermediate, changes nothing
//     either. A chain that became shorter counts only after some seconds. Package renewal decides.
//   - A name is gone only when its folder is. When many go at once, as when a volume is not
//     mounted, they are held back. They are so until they return or [Dir.ConfirmLoss] accepts the
//     loss.
//   - Files are read only when their name was asked for, or in the background.
//
// It does not know the store. What it must remember over a restart goes through [Known].
package dir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

// Config is what a [Dir] needs.
type Config struct {
	// Dir is the directory. It may be a symbolic link, and so may the folders in it.
	Dir string
	// Rescan is the time between two looks at everything. The default is 5 s.
	Rescan time.Duration
	// Changed is called with names whose certificate may differ now: new, changed, gone, back.
	// Run's goroutine calls it, so it must not block. It may name more than what changed. It may
	// be nil.
	Changed func([]keysource.Name)
	// Noted is called with each thing that a look at the directory showed. It must not block, and
	// must not call the Dir. It may be nil.
	Noted func(Change)
	// Last returns what is remembered of the certificate of a name that was taken last, from before
	// a restart. It must not block, and must not call the Dir. It may be nil.
	Last func(keysource.Name) renewal.Last
	// Known remembers the names over a restart. So it is noticed as a loss that a volume is not
	// mounted at the start. If it is nil, that is not noticed.
	Known Known
	// AcceptLoss is what an operator types to accept a loss. Errors and the log name it.
	AcceptLoss string
	// Log gets what an operator should know. If it is nil, nothing is logged.
	Log *slog.Logger
}

// What is what became of a name in the directory.
type What uint8

const (
	Taken   What = iota // a good certificate was read; it may be the one of before
	Refused             // the files cannot be used
	Removed             // the folder is gone
	Held                // the folder is gone, with many others, and the name is held back
	Back                // a name that was held back has its folder again
)

// Change is one thing that a look at the directory showed.
type Change struct {
	Name keysource.Name
	What What
	// Certificate is the one that was taken. Its key is left out.
	Certificate keysource.Certificate
	Version     string // Version is that of the certificate that was taken, key included.
	Problem     string // Problem is why the files cannot be used, with Refused.
	// Kept is the version that is served on, with Refused. It is empty if none is in memory: nobody
	// had asked for the name, or the process has started since.
	Kept string
}

// Known keeps the names of the directory outside the process. Run's goroutine calls it.
type Known interface {
	// Load returns the names of the last Save, or none if there was no Save.
	Load(ctx context.Context) ([]keysource.Name, error)
	// Save replaces the names.
	Save(ctx context.Context, names []keysource.Name) error
}

// Dir is a [keysource.Source]. All methods are safe for concurrent use. Nothing is read before
// Run.
type Dir struct {
	root    string
	rescan  time.Duration
	changed func([]keysource.Name)
	noted   func(Change)
	last    func(keysource.Name) renewal.Last
	known   Known
	accept  string // what an operator types to accept a loss
	log     *slog.Logger
	open    func() (*watcher, error)

	loads  singleflight.Group
	ready  chan struct{} // closed after the first scan
	wakeup chan struct{} // capacity 1; ready when Run should look at what mu guards

	mu    sync.Mutex
	hosts map[keysource.Name]*host
	bad   map[string]string // folder → why it is not the folder of a name
	// recentlyGone holds the names that went within lossWindow, and were removed.
	recentlyGone map[keysource.Name]goneName
	unread       error // why the last scan could not read the directory
	// accepted reports that the directory is missing, and that ConfirmLoss accepted that.
	accepted bool
	fresh    []*host // asked for the first time, and to be watched
	woken    map[keysource.Name]struct{}
	// again is when another look is due at what looked wrong, or may not be served yet. It is zero
	// if none is.
	again   time.Time
	unsaved bool // the names changed and were not saved in Known

	// Only Run uses the rest.
	scans    uint64 // number of the last scan
	scanning time.Duration
	// backlog holds names that changed and were not asked for. They are checked when there is
	// nothing else to do.
	backlog    []*host
	dirty      map[string]struct{} // folders that inotify named
	rootDirty  bool
	soon       time.Time // when to look at these; zero if there are none
	saveFailed bool
}

const (
	defaultRescan = 5 * time.Second
	// secondLook is how long something may look wrong before it is believed. Two files are never
	// replaced at the same instant, nor are folders.
	secondLook = time.Second
	// burst is how long the rest of a burst of inotify events is waited for.
	burst = 20 * time.Millisecond
)

// New returns a Dir that has read nothing yet.
func New(c Config) *Dir {
	if c.Rescan <= 0 {
		c.Rescan = defaultRescan
	}
	if c.Changed == nil {
		c.Changed = func([]keysource.Name) {}
	}
	if c.Noted == nil {
		c.Noted = func(Change) {}
	}
	if c.Last == nil {
		c.Last = func(keysource.Name) renewal.Last { return renewal.Last{} }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Dir{
		root: filepath.Clean(c.Dir), rescan: c.Rescan, changed: c.Changed, noted: c.Noted, known: c.Known,
		log: c.Log, last: c.Last,
		open: openWatcher, accept: c.AcceptLoss,
		ready: make(chan struct{}), wakeup: make(chan struct{}, 1),
		hosts: map[keysource.Name]*host{}, bad: map[string]string{}, recentlyGone: map[keysource.Name]goneName{},
		woken: map[keysource.Name]struct{}{}, dirty: map[string]struct{}{},
	}
}

// Ready is closed once the directory was read. If it cannot be read, Ready is closed once the
// names known from last time are held back.
func (d *Dir) Ready() <-chan struct{} { return d.ready }

// Certificate implements [keysource.Source]. It blocks until Ready. The files of a name are read
// when it is first asked for. From then on its last good certificate stays in memory until the
// name is gone, whatever happens to the files.
func (d *Dir) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	select {
	case <-d.ready:
	default:
		select {
		case <-d.ready:
		case <-ctx.Done():
			return keysource.Certificate{}, fmt.Errorf("%s was not read yet: %w", d.root, ctx.Err())
		}
	}
	h, c, err := d.lookup(n)
	if h == nil {
		return c, err
	}
	select {
	case r := <-d.loads.DoChan(string(n), func() (any, error) { return nil, d.look(h) }):
		d.mu.Lock()
		defer d.mu.Unlock()
		if h.good != nil {
			return *h.good, nil
		}
		// R.Err is nil if the folder was made anew meanwhile.
		return keysource.Certificate{}, cmp.Or(r.Err, errGone)
	case <-ctx.Done():
		return keysource.Certificate{}, fmt.Errorf("reading %s: %w", h.name, ctx.Err())
	}
}

// lookup answers from memory, or returns the host whose files must be read.
func (d *Dir) lookup(n keysource.Name) (*host, keysource.Certificate, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.hosts[n]
	switch {
	case h == nil && d.unread != nil:
		return nil, keysource.Certificate{}, d.unread
	case h == nil:
		return nil, keysource.Certificate{}, fmt.Errorf("%s in %s: %w", n, d.root, keysource.ErrNotExist)
	}
	if !h.asked {
		h.asked = true
		d.fresh = append(d.fresh, h)
		d.signal()
	}
	switch {
	case h.good != nil:
		return nil, *h.good, nil
	case h.held:
		return nil, keysource.Certificate{}, d.heldError(h)
	}
	return h, keysource.Certificate{}, nil
}

// signal wakes Run.
func (d *Dir) signal() {
	select {
	case d.wakeup <- struct{}{}:
	default:
	}
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
