package eager

import (
	"context"
	"errors"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	// scanShare bounds the part of the time in which all certificates are enumerated, to one in
	// scanShare. There may be a million, and each takes part in it.
	scanShare = 20
	// recount is the time between two enumerations that only count the names beyond those that are
	// kept.
	recount = 10 * time.Minute
)

// readMatches finds out which certificates are matched now. It looks at those that may have
// changed. It looks at all of them at first, and when too much has changed to be named. It does
// so, too, when there is room for a host of which only the number is known, and to count these
// again. It looks at all of them not too often.
func (e *Eager) readMatches(ctx context.Context) error {
	c := e.choice.Load()
	if len(c.match) == 0 {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.matched, e.scannedFor = matches{keep: c.max + keepBeyond}, c
		return nil
	}
	all := e.rescanNow(c, time.Now())
	e.mu.Lock()
	dirty := e.changed
	e.changed = map[keysource.Name]struct{}{}
	e.scanning = all
	e.mu.Unlock()
	var err error
	if all {
		err = e.scan(ctx, c)
	} else {
		err = e.read(ctx, dirty)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scanning = false
	if err != nil {
		for n := range dirty {
			e.changed[n] = struct{}{}
		}
	}
	return err
}

// rescanNow decides whether all certificates are to be enumerated now.
func (e *Eager) rescanNow(c *choice, now time.Time) bool {
	hosts, _ := e.Hosts()
	e.mu.Lock()
	defer e.mu.Unlock()
	free := e.matched.last != "" && len(hosts) < c.max
	since := now.Sub(e.scanned)
	switch {
	case e.scanned.IsZero() || e.scannedFor != c:
		return true
	case e.rescan || free:
		return since >= max(e.cfg.Refresh, scanShare*e.scanTook)
	}
	return e.miscounted && since >= recount
}

// scan enumerates all certificates, and keeps those that c matches.
func (e *Eager) scan(ctx context.Context, c *choice) error {
	start := time.Now()
	e.mu.Lock()
	e.rescan, e.miscounted = false, false
	e.mu.Unlock()
	found := matches{keep: c.max + keepBeyond}
	for n, err := range e.cfg.Names(ctx) {
		if err != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.rescan = true
			return err
		}
		if c.matches(n) {
			found.add(n)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.matched, e.scannedFor = found, c
	e.scanned, e.scanTook = time.Now(), time.Since(start)
	return nil
}

// read looks at these names alone.
func (e *Eager) read(ctx context.Context, dirty map[keysource.Name]struct{}) error {
	for n := range dirty {
		if e.onlyCounted(n) {
			continue
		}
		_, _, err := e.cfg.Sources.Find(ctx, n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.mu.Lock()
		switch {
		case errors.Is(err, keysource.ErrNotExist):
			e.matched.remove(n)
		// A broken one exists, as it does for scan.
		case err == nil, errors.Is(err, keysource.ErrBadCertificate), errors.Is(err, store.ErrSealed):
			e.matched.add(n)
		default: // it stays as it was until it can be looked up
			e.changed[n] = struct{}{}
		}
		e.mu.Unlock()
	}
	return nil
}

// onlyCounted reports whether n is only counted, and notes that the number may be wrong now.
func (e *Eager) onlyCounted(n keysource.Name) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.matched.onlyCounted(n) {
		return false
	}
	e.miscounted = true
	return true
}
