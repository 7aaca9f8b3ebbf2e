package sds

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Rings says which ring a stream may be sent.
//
// Ring returns nil while it may be sent none; barred if it is never to be sent one and must be told that there is none. It does not block.
type Rings interface {
	Ring(stream uint64, scope string) (ring *keysource.Ring, barred bool)
}

// Config of a [Table].
type Config struct {
	Source keysource.Source // of certificates
	Rings  Rings
	Log    *slog.Logger
}

// Table holds the secrets that some stream wants now, and nothing else: what nobody asks for costs nothing. It implements
// [xds.Resources]: look-ups answer from memory, and [Table.Run] loads certificates behind them, one flight a name. A certificate that cannot be
// loaded leaves the last good one in place.
type Table struct {
	cfg  Config
	work chan struct{} // capacity 1: the queue has something

	mu    sync.Mutex
	certs map[string]*entry                      // by the name that was asked
	under map[keysource.Name]map[*entry]struct{} // entries that another name than their own decides: another spelling's, a wildcard's
	rings map[string]map[uint64]*xds.Mailbox     // scope, stream
	sent  map[string]ringed                      // the last ring of a scope as it is sent
	queue []*entry
}

// entry is one certificate under the name that was asked for.
type entry struct {
	asked string
	name  keysource.Name
	state xds.State
	res   *xds.Resource
	watchers
	queued, loading, again bool // again: something changed while it was loaded
	fails                  int
	gone                   bool // nobody watches it any more
}

type ringed struct {
	ring *keysource.Ring
	res  *xds.Resource
}

// NewTable starts nothing.
func NewTable(c Config) *Table {
	return &Table{
		cfg: c, work: make(chan struct{}, 1),
		certs: map[string]*entry{}, under: map[keysource.Name]map[*entry]struct{}{},
		rings: map[string]map[uint64]*xds.Mailbox{}, sent: map[string]ringed{},
	}
}

// Lookup implements [xds.Resources].
func (t *Table) Lookup(node xds.Node, name string) (*xds.Resource, xds.State) {
	if scope, ok := keysource.RingScope(name); ok {
		return t.ring(node, scope)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.certs[name]
	if e == nil {
		return nil, xds.NotYet
	}
	return e.res, e.state
}

// ring: rings are for the SDS service alone. On ADS a client's SNI could ask for one (as a certificate), and so it does not exist there.
func (t *Table) ring(node xds.Node, scope string) (*xds.Resource, xds.State) {
	if node.Service != xds.SDS {
		return nil, xds.Absent
	}
	ring, barred := t.cfg.Rings.Ring(node.Stream, scope)
	if barred {
		return nil, xds.Absent
	}
	if ring == nil {
		return nil, xds.NotYet
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if have := t.sent[scope]; have.ring == ring {
		return have.res, xds.Present
	}
	res, err := ringResource(scope, *ring)
	if err != nil {
		t.cfg.Log.Error("a ring cannot be encoded", "scope", scope, "err", err)
		return nil, xds.NotYet
	}
	t.sent[scope] = ringed{ring, res}
	return res, xds.Present
}

// Watch implements [xds.Resources]. The first watch of a name has it loaded.
func (t *Table) Watch(node xds.Node, name string, box *xds.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if scope, ok := keysource.RingScope(name); ok {
		if t.rings[scope] == nil {
			t.rings[scope] = map[uint64]*xds.Mailbox{}
		}
		t.rings[scope][node.Stream] = box
		return
	}
	e := t.certs[name]
	if e == nil {
		e = t.enter(name)
	}
	e.add(box)
}

// Unwatch implements [xds.Resources].
func (t *Table) Unwatch(node xds.Node, name string, box *xds.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if scope, ok := keysource.RingScope(name); ok {
		delete(t.rings[scope], node.Stream)
		if len(t.rings[scope]) == 0 {
			delete(t.rings, scope)
		}
		return
	}
	if e := t.certs[name]; e != nil {
		t.unwatch(e, box)
	}
}

// enter makes the entry of a name that nobody watched.
func (t *Table) enter(asked string) *entry {
	e := &entry{asked: asked}
	t.certs[asked] = e
	n, err := keysource.ServerName(asked)
	if err != nil {
		e.state = xds.Absent // no certificate can have such a name: no look-up is spent on it
		return e
	}
	if e.name = n; string(n) == asked {
		e.name = keysource.Name(asked) // the same bytes: a node may ask for 200 000 names
	}
	for _, decides := range e.decidedBy() {
		if t.under[decides] == nil {
			t.under[decides] = map[*entry]struct{}{}
		}
		t.under[decides][e] = struct{}{}
	}
	t.enqueue(e)
	return e
}

// decidedBy lists the names other than e.asked whose certificates e shows.
func (e *entry) decidedBy() (names []keysource.Name) {
	if string(e.name) != e.asked {
		names = append(names, e.name)
	}
	if w := e.name.Wildcard(); w != "" {
		names = append(names, w)
	}
	return names
}

// unwatch forgets an entry with its last watcher. The caller holds mu.
func (t *Table) unwatch(e *entry, box *xds.Mailbox) {
	e.remove(box)
	if !e.none() {
		return
	}
	e.gone = true
	delete(t.certs, e.asked)
	for _, decides := range e.decidedBy() {
		delete(t.under[decides], e)
		if len(t.under[decides]) == 0 {
			delete(t.under, decides)
		}
	}
}

// Refresh has the certificates of these names loaded again, where somebody watches them.
func (t *Table) Refresh(names []keysource.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range names {
		if e := t.certs[string(n)]; e != nil && e.name != "" {
			t.enqueue(e)
		}
		for e := range t.under[n] {
			t.enqueue(e)
		}
	}
}

// RefreshRing wakes the streams that watch a scope's ring: these, or all where streams is nil.
func (t *Table) RefreshRing(scope string, streams []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	boxes := t.rings[scope]
	if streams == nil {
		streams = slices.Collect(maps.Keys(boxes))
	}
	name := keysource.RingName(scope)
	for _, s := range streams {
		if box := boxes[s]; box != nil {
			box.Put(name)
		}
	}
}

// Watched is how many certificate names are watched now.
func (t *Table) Watched() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.certs)
}

const (
	loaders     = 8                // loads at once: a slow source holds up as many names and no more
	loadWithin  = 10 * time.Second // one load
	retryLoad   = time.Second      // after a load that failed, doubling to a minute
	retryLoadAt = time.Minute
)

// Run loads certificates until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range loaders {
		g.Go(func() error {
			for {
				e := t.take()
				if e == nil {
					select {
					case <-ctx.Done():
						return nil
					case <-t.work:
					}
					continue
				}
				c, err := t.load(ctx, e.name)
				if ctx.Err() != nil {
					return nil
				}
				t.loaded(e, c, err)
			}
		})
	}
	return g.Wait()
}

// enqueue: the caller holds mu.
func (t *Table) enqueue(e *entry) {
	if e.loading {
		e.again = true
		return
	}
	if e.queued || e.gone {
		return
	}
	e.queued = true
	t.queue = append(t.queue, e)
	t.signal()
}

func (t *Table) signal() {
	select {
	case t.work <- struct{}{}:
	default:
	}
}

func (t *Table) take() *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		e := t.queue[0]
		t.queue[0] = nil
		t.queue = t.queue[1:]
		e.queued = false
		if e.gone {
			continue
		}
		e.loading = true
		if len(t.queue) > 0 {
			t.signal() // another loader may take the next
		}
		return e
	}
	t.queue = nil
	return nil
}

// load finds the certificate for a name: its own, else its wildcard's.
func (t *Table) load(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	c, err := t.cfg.Source.Certificate(ctx, n)
	if w := n.Wildcard(); w != "" && errors.Is(err, keysource.ErrNotExist) {
		return t.cfg.Source.Certificate(ctx, w)
	}
	return c, err
}

func (t *Table) loaded(e *entry, c keysource.Certificate, err error) {
	var res *xds.Resource
	if err == nil {
		res, err = certificateResource(e.asked, c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.loading = false
	switch {
	case err == nil:
		if e.state != xds.Present || e.res.Version != res.Version {
			e.state, e.res = xds.Present, res
			e.wake(e.asked)
		}
		e.fails = 0
	case errors.Is(err, keysource.ErrNotExist):
		if e.state != xds.Absent {
			e.state, e.res = xds.Absent, nil
			e.wake(e.asked)
		}
		e.fails = 0
	default:
		t.failed(e, err)
	}
	if e.again {
		e.again = false
		t.enqueue(e)
	}
}

// failed keeps what the entry has and tries again. The caller holds mu.
func (t *Table) failed(e *entry, err error) {
	if e.fails == 0 {
		t.cfg.Log.Warn("a certificate cannot be loaded; what was sent stays", "name", e.asked, "err", err)
	}
	wait := min(retryLoad<<min(e.fails, 6), retryLoadAt)
	e.fails++
	time.AfterFunc(wait, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.enqueue(e)
	})
}
