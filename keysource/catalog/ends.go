package catalog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	maxEnds = 1000 // maxEnds is how many are kept, by each of two orders.
	// maxChanged bounds the names that wait to be read. Beyond that the whole store is read again.
	maxChanged = 10_000
	// endsEvery is how often the whole store is read, although all changes are followed. It is read
	// after endsSoonest when so many certificates were renewed that too few ends are known.
	endsEvery, endsSoonest = 12 * time.Hour, time.Hour
	// endsPage is how many records are read at a time, of endsChunk keys that are listed at a time.
	endsPage, endsChunk = 256, 50_000
	// endsShare is the part of the time that is spent reading. The rest is left to others.
	endsShare, endsPause = 10, 10 * time.Millisecond
)

// Ends is what is known of the ends of the stored certificates.
type Ends struct {
	// Soonest are those that end first, in order. Late are those that are near their end or have
	// expired ([expiry.Served]), those first that have been so for longest. Each are 1000 at most.
	Soonest, Late []expiry.Named
	// More reports that there may be others as late as these.
	More bool
	// KnownAt is when all records had been read. It is zero until they were read once: then Ends is
	// of those that were.
	KnownAt time.Time
}

// ends learns when the stored certificates end. It keeps the nearest ends, and nothing of the
// others. One goroutine reads records, slowly: all at the start and twice a day, and those that
// change.
type ends struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	now     *endSet // now is nil until all records were read once.
	next    *endSet // next is what is being read; nil if nothing is.
	changed map[keysource.Name]struct{}
	again   bool // again reports that all records have to be read.
	knownAt time.Time
}

// endSet is what is kept.
type endSet struct{ soonest, late *expiry.First }

func newEndSet() *endSet {
	return &endSet{
		expiry.NewFirst(maxEnds, expiry.ByEnd), expiry.NewFirst(maxEnds, expiry.ByNear(expiry.Served)),
	}
}

func newEnds() *ends {
	return &ends{wake: make(chan struct{}, 1), changed: map[keysource.Name]struct{}{}, again: true}
}

// Ends returns what is known now. It reads nothing. While Run does not run it knows nothing.
func (c *Catalog) Ends() (out Ends) {
	e := c.ends
	e.mu.Lock()
	defer e.mu.Unlock()
	set := e.now
	if set == nil {
		set = e.next
	}
	if set == nil {
		return out
	}
	out.Soonest = append(out.Soonest, set.soonest.All()...)
	now := time.Now()
	for _, n := range set.late.All() {
		if n.State(expiry.Served, now) == expiry.Good {
			break
		}
		out.Late = append(out.Late, n)
	}
	out.More = set.late.Cut() && len(out.Late) == maxEnds
	out.KnownAt = e.knownAt
	return out
}

// note takes names that changed.
func (e *ends) note(names []keysource.Name) {
	e.mu.Lock()
	for _, n := range names {
		if len(e.changed) == maxChanged {
			clear(e.changed)
			e.again = true
			break
		}
		e.changed[n] = struct{}{}
	}
	e.mu.Unlock()
	e.rouse()
}

// forget is called when the store has lost what it had.
func (e *ends) forget() {
	e.mu.Lock()
	e.now, e.knownAt, e.again = nil, time.Time{}, true
	if e.next != nil {
		e.next = newEndSet()
	}
	e.mu.Unlock()
	e.rouse()
}

func (e *ends) rouse() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// begin reports whether all records are to be read, and begins that.
func (e *ends) begin(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	thin := e.now != nil && (e.now.soonest.Thin() || e.now.late.Thin())
	age := now.Sub(e.knownAt)
	if !e.again && age < endsEvery && !(thin && age >= endsSoonest) {
		return false
	}
	e.again, e.next = false, newEndSet()
	return true
}

// end takes into use what was read, unless that was broken off.
func (e *ends) end(now time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.again = true
		return
	}
	e.now, e.next, e.knownAt = e.next, nil, now
}

// take returns some of the names that changed.
func (e *ends) take() (keys []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for n := range e.changed {
		if len(keys) == endsPage {
			break
		}
		keys = append(keys, key(n))
		delete(e.changed, n)
	}
	return keys
}

// put notes when the certificate of a name ends. The zero span means that there is none that can
// be read.
func (e *ends) put(name string, s expiry.Span) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, set := range []*endSet{e.now, e.next} {
		switch {
		case set == nil:
		case s.NotAfter.IsZero():
			set.soonest.Drop(name)
			set.late.Drop(name)
		default:
			set.soonest.Put(name, s)
			set.late.Put(name, s)
		}
	}
}

// followEnds reads records until ctx ends. What fails is tried again after a refresh.
func (c *Catalog) followEnds(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	down := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.ends.wake:
		case <-timer.C:
		}
		err := c.readChanged(ctx)
		if err == nil && c.ends.begin(time.Now()) {
			err = c.readAllEnds(ctx)
			c.ends.end(time.Now(), err)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !down:
			c.log.Warn("the stored certificates cannot be looked through for those that end soon; trying again",
				"every", c.refresh, "error", err)
		}
		if down = err != nil; down { // until the time has come, whoever wakes
			select {
			case <-ctx.Done():
				return
			case <-time.After(c.refresh):
			}
		}
		timer.Reset(c.refresh)
	}
}

// readAllEnds reads every record of the store.
func (c *Catalog) readAllEnds(ctx context.Context) error {
	last := ""
	for {
		var keys []string
		for k, err := range c.store.KeysAfter(ctx, prefix, last) {
			if err != nil {
				return err
			}
			if keys = append(keys, k); len(keys) == endsChunk {
				break
			}
		}
		for at := 0; at < len(keys); at += endsPage {
			if err := c.readEnds(ctx, keys[at:min(at+endsPage, len(keys))]); err != nil {
				return err
			}
			if err := c.readChanged(ctx); err != nil {
				return err
			}
		}
		if len(keys) < endsChunk {
			return nil
		}
		last = keys[len(keys)-1]
	}
}

// readChanged reads the records that changed.
func (c *Catalog) readChanged(ctx context.Context) error {
	for keys := c.ends.take(); len(keys) > 0; keys = c.ends.take() {
		if err := c.readEnds(ctx, keys); err != nil {
			c.ends.note(namesOf(keys))
			return err
		}
	}
	return nil
}

// readEnds reads some records, and waits so long that others have their turn.
func (c *Catalog) readEnds(ctx context.Context, keys []string) error {
	began := time.Now()
	for i, v := range store.GetAll(ctx, c.store, keys) {
		name, err := store.Segment(keys[i])
		if err != nil || key(keysource.Name(name)) != keys[i] {
			continue // no name of a certificate: the list shows it
		}
		cert, err := c.read(keysource.Name(name), v)
		switch {
		case err == nil:
			c.ends.put(name, expiry.Span{NotBefore: cert.NotBefore, NotAfter: cert.NotAfter})
		case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrSealed),
			errors.Is(err, keysource.ErrBadCertificate):
			c.ends.put(name, expiry.Span{})
		default:
			return err
		}
	}
	if len(keys) < endsPage {
		return nil // a small store is known at once
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(max(endsPause, (endsShare-1)*time.Since(began))):
		return nil
	}
}

func namesOf(keys []string) (names []keysource.Name) {
	for _, k := range keys {
		if name, err := store.Segment(k); err == nil {
			names = append(names, keysource.Name(name))
		}
	}
	return names
}
