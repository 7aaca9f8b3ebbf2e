package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	// waitToBeValid is how long Put waits for a certificate that is not valid yet. A CA's clock may
	// be some seconds ahead.
	waitToBeValid = 5 * time.Second
	// maxWarned is of how many certificates warnings are kept. More look worse only when a fleet
	// changes its CA, and then all for the same reason.
	maxWarned = 1000
)

var warnings = store.Renewals.All()

// warningRecord is the value of "renewal/<name>". It counts while the certificate has that version.
type warningRecord struct {
	Version  string    `json:"version"`
	Warnings []string  `json:"warnings"`
	At       time.Time `json:"at"`
}

// warning is what is to be warned of a version of a name.
type warning struct {
	name    keysource.Name
	version string
	words   []string
}

// warned has the warnings of the store, as far as they were read.
type warned struct {
	mu   sync.Mutex
	by   map[keysource.Name]warningRecord
	stay map[keysource.Name]bool // stay are the names of by whose certificate had the version.
}

// of returns the warnings about a certificate of n that was read.
func (w *warned) of(n keysource.Name, c keysource.Certificate) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.by[n]
	if !ok {
		return nil
	}
	if w.stay[n] = r.Version == c.Version(); !w.stay[n] {
		return nil
	}
	return r.Warnings
}

func (w *warned) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by, w.stay = nil, nil
}

func (w *warned) set(n keysource.Name, r *warningRecord) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r == nil {
		delete(w.by, n)
		delete(w.stay, n)
		return
	}
	if w.by == nil {
		w.by, w.stay = map[keysource.Name]warningRecord{}, map[keysource.Name]bool{}
	}
	w.by[n], w.stay[n] = *r, true
}

// Warned is a stored certificate that looks wrong.
type Warned struct {
	Name     keysource.Name
	Warnings []string
}

// Warned lists by name the stored certificates that look worse than what they replaced, or wrong in
// themselves, 1000 at most.
func (c *Catalog) Warned() (out []Warned) {
	c.warned.mu.Lock()
	defer c.warned.mu.Unlock()
	for n, r := range c.warned.by {
		if c.warned.stay[n] {
			out = append(out, Warned{n, r.Warnings})
		}
	}
	slices.SortFunc(out, func(a, b Warned) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// judge judges next against what is stored. If next will be valid soon, it waits.
func (c *Catalog) judge(ctx context.Context, n keysource.Name, have, next keysource.Certificate) ([]string, error) {
	v := renewal.Judge(have, next, time.Now())
	if wait := time.Until(v.Until); v.Early && wait <= waitToBeValid {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("the certificate of %s was not stored: it is valid in %s: %w", n, wait, ctx.Err())
		}
		v = renewal.Judge(have, next, time.Now())
	}
	if v.Keep != "" {
		return nil, kept(n, v)
	}
	return v.Warnings, nil
}

// kept says why the stored certificate of n stays.
func kept(n keysource.Name, v renewal.Verdict) error {
	next := "; if it is meant, remove the stored one first"
	if v.Early {
		next = ": put it then"
	}
	return fmt.Errorf("%s: %w: %s%s", n, keysource.ErrBadCertificate, v.Keep, next)
}

// warn keeps the warnings about certificates that were stored, and forgets those about what they
// replaced. What cannot be written is logged.
func (c *Catalog) warn(ctx context.Context, all []warning) {
	var changes []store.Change
	var next []*warningRecord
	var names []keysource.Name
	c.warned.mu.Lock()
	room := maxWarned - len(c.warned.by)
	for _, w := range all {
		_, had := c.warned.by[w.name]
		change := store.Change{Key: store.Renewals.Key(string(w.name))}
		var r *warningRecord
		switch {
		case len(w.words) > 0 && (had || room > 0):
			if !had {
				room--
			}
			r = &warningRecord{Version: w.version, Warnings: w.words, At: time.Now().UTC()}
			change.Val, _ = json.Marshal(r) // text and a time
		case !had:
			continue
		}
		changes, next, names = append(changes, change), append(next, r), append(names, w.name)
	}
	c.warned.mu.Unlock()
	for i := range changes {
		if err := c.overwrite(ctx, changes[i]); err != nil {
			c.log.Warn("a warning about a certificate is not kept", "name", names[i], "error", err)
		}
		c.warned.set(names[i], next[i])
	}
}

// besides forgets what a certificate that is stored under n makes right: a first certificate of the
// host that is no longer RSA. Another replica may have stored that one just now.
func (c *Catalog) besides(ctx context.Context, n keysource.Name) {
	if !n.IsSecond() {
		return
	}
	val, _, err := c.store.Get(ctx, store.Renewals.Key(string(n.Host())))
	var r warningRecord
	if err != nil || json.Unmarshal(val, &r) != nil {
		return
	}
	if words := renewal.Beside(r.Warnings); len(words) < len(r.Warnings) {
		c.warned.set(n.Host(), &r)
		c.warn(ctx, []warning{{n.Host(), r.Version, words}})
	}
}

// overwrite writes a value whatever is there.
func (c *Catalog) overwrite(ctx context.Context, change store.Change) error {
	for range maxTries {
		_, rev, err := c.store.Get(ctx, change.Key)
		switch {
		case errors.Is(err, store.ErrNotExist) && change.Val == nil:
			return nil
		case err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed):
			return err
		}
		if _, err = c.store.Swap(ctx, change.Key, rev, change.Val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}

// lookForWarnings reads the warnings that changed since a revision, and returns the next one. It
// looks whether their certificates are still those that they are about.
func (c *Catalog) lookForWarnings(ctx context.Context, since store.Rev) store.Rev {
	keys, head, err := c.store.Changed(ctx, warnings, since)
	if err != nil {
		return since
	}
	var names []keysource.Name
	for i, v := range store.GetAll(ctx, c.store, keys) {
		segment, err := store.Segment(keys[i])
		if err != nil {
			continue
		}
		n := keysource.Name(segment)
		var r warningRecord
		switch {
		case errors.Is(v.Err, store.ErrNotExist), errors.Is(v.Err, store.ErrSealed):
			c.warned.set(n, nil)
		case v.Err != nil:
			return since
		case json.Unmarshal(v.Val, &r) == nil:
			c.warned.set(n, &r)
			names = append(names, n)
		}
	}
	c.recheckWarned(ctx, names)
	return head
}

// recheckWarned reads the certificates of names of which there is a warning.
func (c *Catalog) recheckWarned(ctx context.Context, names []keysource.Name) {
	for _, n := range names {
		c.warned.mu.Lock()
		_, ok := c.warned.by[n]
		c.warned.mu.Unlock()
		if !ok {
			continue
		}
		var v store.Value
		v.Val, v.Rev, v.Err = c.store.Get(ctx, key(n))
		if _, err := c.read(n, v); errors.Is(err, store.ErrNotExist) {
			c.warned.set(n, nil)
		}
	}
}
