package sds

import (
	"context"
	"errors"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

const (
	// loaders is how many loads run at the same time. A slow source holds up as many names, and no
	// more. At most half of the loads are of names whose last load failed.
	loaders = 32
	// firstLoaders is how many look-ups in the first source alone run at the same time.
	firstLoaders = 8
	loadWithin   = 10 * time.Second // the time limit of one load
	retryFirst   = time.Second      // after a failed load; it doubles up to retryMost
	retryMost    = time.Minute
)

// queue holds the names that wait for a loader. The table's mutex guards it.
type queue struct {
	work    chan struct{} // capacity 1; ready when there is something to take
	fresh   []*entry
	failed  []*entry // entries whose last load failed
	failing int      // how many of these are being loaded

	retriers int // the most that failing may be
}

func newQueue(workers int) queue { return queue{work: make(chan struct{}, 1), retriers: workers / 2} }

// put adds e to the queue.
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
		// Another loader may take the next entry: two calls of put may have made one signal.
		q.signal()
	}
	return e
}

// done notes that an entry was loaded. fails is its count of failed loads when it was taken.
func (q *queue) done(fails int) {
	if fails > 0 {
		q.failing-- // the loader that called done takes the next entry
	}
}

func (q *queue) signal() {
	select {
	case q.work <- struct{}{}:
	default:
	}
}

// pop takes the first entry of list that is still wanted and has not moved to another queue.
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
	for range firstLoaders {
		g.Go(func() error {
			t.work(ctx, &t.firstQueue, func(e *entry) { t.loadFirst(ctx, e) })
			return nil
		})
	}
	if t.cfg.Trials != nil {
		g.Go(func() error { return t.runTrials(ctx) })
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

// loadFirst looks for a name in the first source alone. So a certificate that is there (in the
// directory) does not wait for loaders that a later source (the store) holds up.
func (t *Table) loadFirst(ctx context.Context, e *entry) {
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
		t.firstQueue.done(e.fails)
		e.loading, e.again = false, false // a loader looks in all sources anew
		if !e.gone {
			t.queue.put(e)
		}
	default:
		t.loaded(e, &t.firstQueue, f, err)
	}
}

// enqueue has e loaded. The caller holds mu.
func (t *Table) enqueue(e *entry) {
	if e.loading {
		e.again = true
		return
	}
	q := &t.queue
	if len(t.cfg.Sources) > 1 && !e.name.IsSecond() { // the other of two may be elsewhere
		// This includes an entry that waits for a loader: the first source may have it now.
		q = &t.firstQueue
	}
	if e.in == q || e.gone || !e.wanted {
		return
	}
	e.stopRetry()
	q.put(e)
}

// stopRetry stops the timer of the next try. The load happens now, or is not needed.
func (e *entry) stopRetry() {
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

// found is a certificate, and where it was found.
type found struct {
	keysource.Certificate
	from int
	wild bool // reports whether it was found under the wildcard
	// standIn is for chains that name a second certificate which does not exist.
	standIn *xds.Resource
}

// load finds the certificate for a name: its own, or else its wildcard's. Only the loader of e
// changes the fields of e that are read here.
func (t *Table) load(ctx context.Context, e *entry) (f found, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	if e.name.IsSecond() {
		return t.loadSecond(ctx, e)
	}
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
	if t.cfg.CheckComplete != nil && (err != nil || own) {
		if doubt := t.checkAbsence(ctx, e); doubt != nil {
			return f, doubt
		}
	}
	return f, err
}

// loaded takes the outcome of a load of e, which came from q.
func (t *Table) loaded(e *entry, q *queue, f found, err error) {
	var res *xds.Resource
	if err == nil {
		res, err = certificateResource(e.asked, f.Certificate)
	}
	// A chain has no group: an operator chose its host.
	if err == nil && f.wild && e.asked != keysource.ChainName(e.name) {
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
			e.keepGood(before, res)
			e.state, e.res, e.notAfter = xds.Present, res, f.NotAfter.Unix()
			e.life = uint32(min(max(0, f.NotAfter.Sub(f.NotBefore)/time.Second), math.MaxUint32))
			e.from, e.wild = f.from, f.wild
			t.change(e, before)
		}
		e.from, e.wild = f.from, f.wild
		e.fails, e.bad = 0, false
	case errors.Is(err, keysource.ErrNotExist):
		if e.state != xds.Absent {
			e.state, e.res, e.notAfter = xds.Absent, nil, 0
			t.endPending(e)
			e.wake(e.asked)
		}
		e.fails, e.bad = 0, false
		if f.standIn != nil && e.keepHistory().standIn == nil {
			e.history.standIn = f.standIn
			e.wake(e.asked)
		}
	default:
		t.failed(e, err)
	}
	if e.again {
		e.again = false
		t.enqueue(e)
	}
}

// failed keeps what the entry has, and has it loaded again later. The caller holds mu.
func (t *Table) failed(e *entry, err error) {
	if e.fails == 0 {
		failures := &t.notLoaded
		// A bad certificate has its own log, so that it is not lost among the failures of a
		// source.
		if errors.Is(err, keysource.ErrBadCertificate) {
			failures = &t.notGood
		}
		failures.add(e.asked, err)
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
