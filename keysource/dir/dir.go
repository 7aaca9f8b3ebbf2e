// Package dir serves certificates from a directory of PEM files and notices whatever happens to it.
//
// The directory holds one folder a name, "<server name>/tls.crt" (chain, leaf first) and "<server name>/tls.key"; a wildcard's folder is
// "_.example.com". Files may be replaced by renames, by symlink swaps as Kubernetes does them, or in place. inotify is only a wake-up:
// every Rescan the whole directory is looked at, and that alone finds everything.
//
// What is broken, expired, half-written or of two halves changes nothing: the last good certificate of that name stays, and
// [Dir.List] says what is wrong. A name is gone only when its folder is; when many go at once, as when a volume is not mounted, they are
// held back until they return or [Dir.ConfirmLoss] accepts the loss.
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
)

// Config is what a [Dir] needs.
type Config struct {
	// Dir is the directory. It may be a symbolic link, and so may the folders in it.
	Dir string
	// Rescan is the time between two looks at everything. Default 5 s.
	Rescan time.Duration
	// Changed is called with names for which Certificate may now answer otherwise: new, changed, gone, back. It is called from
	// Run's goroutine, must not block, and may name more than changed. nil: nobody wants to know.
	Changed func([]keysource.Name)
	// Known remembers the names over a restart, so that a volume that is not mounted at start is seen as a loss. nil: it is not.
	Known Known
	// AcceptLoss is what an operator types to accept a loss. Errors and the log name it.
	AcceptLoss string
	// Log gets what an operator should know. Default: nothing is logged.
	Log *slog.Logger
}

// Known keeps the names of the directory outside the process. It is called from Run's goroutine.
type Known interface {
	// Load returns the names of the last Save, or none if there was no Save.
	Load(ctx context.Context) ([]keysource.Name, error)
	// Save replaces them.
	Save(ctx context.Context, names []keysource.Name) error
}

// Dir is a [keysource.Source]. All methods are safe for concurrent use; nothing is read before Run.
type Dir struct {
	root    string
	rescan  time.Duration
	changed func([]keysource.Name)
	known   Known
	accept  string // what an operator types to accept a loss
	log     *slog.Logger
	open    func() (*watcher, error)

	loads singleflight.Group
	ready chan struct{} // closed after the first scan
	kick  chan struct{} // capacity 1: Run looks at what is under mu

	mu       sync.Mutex
	hosts    map[keysource.Name]*host
	bad      map[string]string       // folder → why it is no host
	recent   map[keysource.Name]lost // gone within lossWindow, and believed
	unread   error                   // why the last scan could not read the directory
	accepted bool                    // the directory is missing, and ConfirmLoss took that for the truth
	fresh    []*host                 // asked for the first time: to be watched
	woken    map[keysource.Name]struct{}
	again    time.Time // when what looked wrong is due for its second look; zero: nothing is
	unsaved  bool      // the names changed, and Known has not been told

	// The rest is Run's alone.
	scans      uint64 // numbers the scans
	scanning   time.Duration
	backlog    []*host             // changed, and not asked for: checked when there is nothing else to do
	dirty      map[string]struct{} // folders that inotify named
	rootDirty  bool
	soon       time.Time // when to look at them; zero: none
	saveFailed bool
}

const (
	defaultRescan = 5 * time.Second
	// secondLook is how long something may look wrong before it is believed: two files are never replaced at one instant, nor are folders.
	secondLook = time.Second
	// settle lets the rest of a burst of inotify events come in.
	settle = 20 * time.Millisecond
)

// New returns a Dir that has read nothing yet.
func New(c Config) *Dir {
	if c.Rescan <= 0 {
		c.Rescan = defaultRescan
	}
	if c.Changed == nil {
		c.Changed = func([]keysource.Name) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Dir{
		root: filepath.Clean(c.Dir), rescan: c.Rescan, changed: c.Changed, known: c.Known, accept: c.AcceptLoss, log: c.Log, open: openWatcher,
		ready: make(chan struct{}), kick: make(chan struct{}, 1),
		hosts: map[keysource.Name]*host{}, bad: map[string]string{}, recent: map[keysource.Name]lost{},
		woken: map[keysource.Name]struct{}{}, dirty: map[string]struct{}{},
	}
}

// Ready is closed once the directory was read, or, where it cannot be read, once the names known from last time are held back.
func (d *Dir) Ready() <-chan struct{} { return d.ready }

// Certificate implements [keysource.Source]. It blocks until Ready. Files are read when a name is first asked for; from then on the last good
// certificate stays in memory and is returned whatever happens to the files, until the name is gone.
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
		return keysource.Certificate{}, cmp.Or(r.Err, errGone) // nil: the folder was made anew meanwhile
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
		d.poke()
	}
	switch {
	case h.good != nil:
		return nil, *h.good, nil
	case h.held:
		return nil, keysource.Certificate{}, d.heldError(h)
	}
	return h, keysource.Certificate{}, nil
}

// poke makes Run look.
func (d *Dir) poke() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
