package sds

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

const (
	loaders    = 32               // loads at once: a slow source holds up as many names and no more; half of them at most are of names whose last load failed
	scouts     = 8                // looks at once into the first source alone
	loadWithin = 10 * time.Second // one load
	retryFirst = time.Second      // after a load that failed, doubling
	retryMost  = time.Minute
)

// queue is the names that wait for a loader. The table's mutex guards it.
type queue struct {
	work    chan struct{} // capacity 1: there is something to take
	fresh   []*entry
	failed  []*entry // their last load failed
	failing int      // how many of those are being loaded

	retriers int // how many may be
}

func newQueue(workers int) queue { return queue{work: make(chan struct{}, 1), retriers: workers / 2} }

func (q *queue) put(e *entry) {
	e.in = q
	if e.fails > 0 {
		q.failed = append(q.failed, e)
	} else {
		q.fresh = append(q.fresh, e)
	}
	q.signal()
}

// take returns the next entry that a loader may take, or nil.
func (q *queue) take() *entry {
	e := q.pop(&q.fresh)
	if e == nil && q.failing < q.retriers {
		if e = q.pop(&q.failed); e != nil {
			q.failing++
		}
	}
	if e != nil && len(q.fresh)+len(q.failed) > 0 {
		q.signal() // another loader may take the next: two puts may have made one signal
	}
	return e
}

// done: e was loaded; fails is what it counted when it was taken.
func (q *queue) done(fails int) {
	if fails > 0 {
		q.failing-- // the loader that was done takes the next
	}
}

func (q *queue) signal() {
	select {
	case q.work <- struct{}{}:
	default:
	}
}

// pop takes the first entry that is still wanted, and has not gone to another queue.
func (q *queue) pop(list *[]*entry) *entry {
	for len(*list) > 0 {
		e := (*list)[0]
		(*list)[0] = nil
		*list = (*list)[1:]
		if e.in != q {
			continue
		}
		e.in = nil
		if !e.gone {
			return e
		}
	}
	*list = nil
	return nil
}

// Run loads certificates until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range loaders {
		g.Go(func() error {
			t.work(ctx, &t.queue, func(e *entry) {
				if f, err := t.load(ctx, e); ctx.Err() == nil {
					t.loaded(e, &t.queue, f, err)
				}
			})
			return nil
		})
	}
	for range scouts {
		g.Go(func() error {
			t.work(ctx, &t.first, func(e *entry) { t.scout(ctx, e) })
			return nil
		})
	}
	if t.cfg.Trials != nil {
		g.Go(func() error { return t.tryAll(ctx) })
	}
	return g.Wait()
}

func (t *Table) work(ctx context.Context, q *queue, do func(*entry)) {
	for ctx.Err() == nil {
		e := t.take(q)
		if e == nil {
			select {
			case <-ctx.Done():
			case <-q.work:
			}
			continue
		}
		do(e)
	}
}

// scout looks for a name in the first source alone, so that what is there (the directory) does not wait for loaders that a later one (the store) holds up.
func (t *Table) scout(ctx context.Context, e *entry) {
	var f found
	var err error
	within, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	f.Certificate, err = t.cfg.Sources[0].Certificate(within, e.name)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, keysource.ErrNotExist):
		t.mu.Lock()
		defer t.mu.Unlock()
		t.first.done(e.fails)
		e.loading, e.again = false, false // a loader looks everywhere, and anew
		if !e.gone {
			t.queue.put(e)
		}
	default:
		t.loaded(e, &t.first, f, err)
	}
}

// enqueue: the caller holds mu.
func (t *Table) enqueue(e *entry) {
	if e.loading {
		e.again = true
		return
	}
	q := &t.queue
	if len(t.cfg.Sources) > 1 {
		q = &t.first // also one that waits for a loader: the first source may have it now
	}
	if e.in == q || e.gone || !e.wanted {
		return
	}
	e.calm()
	q.put(e)
}

// calm takes the next try off the clock: it comes now, or is not needed.
func (e *entry) calm() {
	if e.retry != nil {
		e.retry.Stop()
		e.retry = nil
	}
}

func (t *Table) take(q *queue) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := q.take()
	if e != nil {
		e.loading = true
	}
	return e
}

// found is a certificate with the place where it was.
type found struct {
	keysource.Certificate
	from int
	wild bool // under the wildcard
}

// load finds the certificate for a name: its own, else its wildcard's. Only the loader of e changes what is read of it here.
func (t *Table) load(ctx context.Context, e *entry) (f found, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	f.Certificate, f.from, err = t.find(ctx, e.name)
	if !errors.Is(err, keysource.ErrNotExist) {
		return f, err
	}
	if w := e.name.Wildcard(); w != "" {
		f.wild = true
		if f.Certificate, f.from, err = t.find(ctx, w); err != nil && !errors.Is(err, keysource.ErrNotExist) {
			return f, err
		}
	}
	own := e.state == xds.Present && !e.wild
	if t.cfg.Doubt != nil && (err != nil || own) {
		if doubt := t.doubt(ctx, e); doubt != nil {
			return f, doubt
		}
	}
	return f, err
}

// loaded takes the outcome of a load, of an entry from q.
func (t *Table) loaded(e *entry, q *queue, f found, err error) {
	var res *xds.Resource
	if err == nil {
		res, err = certificateResource(e.asked, f.Certificate)
	}
	if err == nil && f.wild && e.asked != keysource.ChainName(e.name) { // a chain's host is an operator's choice
		res.Group = string(e.name.Wildcard())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.loading = false
	q.done(e.fails)
	switch {
	case err == nil:
		if e.state != xds.Present || e.wild != f.wild || e.res.Version != res.Version {
			before := e.res
			e.replaced(before, res)
			e.state, e.res, e.notAfter = xds.Present, res, f.NotAfter.Unix()
			e.from, e.wild = f.from, f.wild
			t.change(e, before)
		}
		e.from, e.wild = f.from, f.wild
		e.fails, e.bad = 0, false
	case errors.Is(err, keysource.ErrNotExist):
		if e.state != xds.Absent {
			e.state, e.res, e.notAfter = xds.Absent, nil, 0
			t.endTrying(e)
			e.wake(e.asked)
		}
		e.fails, e.bad = 0, false
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
		about := &t.down
		if errors.Is(err, keysource.ErrBadCertificate) { // its own fault is not to go under in that of a source
			about = &t.bad
		}
		about.add(e.asked, err)
	}
	if bad := e.state == xds.NotYet && errors.Is(err, keysource.ErrBadCertificate); bad != e.bad {
		e.bad = bad
		e.wake(e.asked)
	}
	wait := min(retryFirst<<min(e.fails, 6), retryMost)
	e.fails++
	e.retry = time.AfterFunc(wait, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.enqueue(e)
	})
}
