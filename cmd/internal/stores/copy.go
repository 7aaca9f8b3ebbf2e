package stores

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
)

// Records is what a copy reads. The records of a store are copied as they are sealed.
type Records interface {
	// Records calls f with each record that was changed after since, one call at a time. The value
	// of one that is gone is nil. head is the revision up to which that is all.
	Records(ctx context.Context, since store.Rev, f func(key string, val []byte) error) (head store.Rev, err error)
}

// Reader makes Records of an open store.
type Reader struct{ store.Store }

// Records implements [Records].
func (r Reader) Records(ctx context.Context, since store.Rev, f func(key string, val []byte) error) (store.Rev, error) {
	keys, head, err := r.Changed(ctx, "", since)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		val, _, err := r.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return 0, err
		}
		if err != nil {
			val = nil
		}
		if err := f(key, val); err != nil {
			return 0, err
		}
	}
	return head, nil
}

// Copy moves what one store holds to another, as it is, sealed with the same key. It follows the
// changes until few are left, freezes the first store, follows until no more change comes, and
// compares everything. Until then To carries a mark, and lockstepd refuses such a store.
type Copy struct {
	From Records
	Name string // of From, for the mark
	To   store.Store
	// Freeze stops changes in From. It is nil if nobody has From open.
	Freeze func(ctx context.Context) error
	// Tell is called after each pass.
	Tell func(Progress)
	// Finish is called after the last write, while To still carries the mark. It is nil if nothing
	// else is to be copied.
	Finish func() error
}

// Progress of a [Copy].
type Progress struct {
	Step    string // copying, frozen, verified
	Pass    int
	Changed int // records that this pass looked at
	Written int // records written so far
}

// ErrNotEmpty says that the store to copy into holds something else.
var ErrNotEmpty = errors.New("not empty")

const (
	few    = 100 // changes in a pass that are worth freezing for
	passes = 20  // after so many passes it freezes in any case
	// quiet is how long no change must come while From is frozen. Drivers try for 5 s, so what was
	// under way has arrived by then, or failed.
	quiet   = 6 * time.Second
	between = 200 * time.Millisecond // two passes
	atOnce  = 8                      // records that are written
)

// Run copies. It can be run again after whatever interrupted it.
func (c *Copy) Run(ctx context.Context) (records int, err error) {
	if err := c.begin(ctx); err != nil {
		return 0, err
	}
	p := Progress{Step: "copying"}
	head := store.Rev(0)
	pass := func() (changed int, err error) {
		p.Pass++
		p.Changed = 0
		head, changed, err = c.pass(ctx, head, &p)
		if err == nil {
			c.Tell(p)
		}
		return changed, err
	}
	for {
		if _, err := pass(); err != nil {
			return 0, err
		}
		if p.Changed <= few || p.Pass >= passes || c.Freeze == nil {
			break
		}
	}
	if c.Freeze != nil {
		if err := c.Freeze(ctx); err != nil {
			return 0, fmt.Errorf("freezing %s: %w", c.Name, err)
		}
		p.Step = "frozen"
		for since := time.Now(); time.Since(since) < quiet; {
			changed, err := pass()
			if err != nil {
				return 0, err
			}
			if changed > 0 {
				since = time.Now()
			}
			select {
			case <-time.After(between):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	if records, err = c.verify(ctx); err != nil {
		return 0, err
	}
	p.Step = "verified"
	c.Tell(p)
	if c.Finish != nil {
		if err := c.Finish(); err != nil {
			return 0, err
		}
	}
	return records, c.end(ctx)
}

// begin marks an empty store, or goes on with one that was marked.
func (c *Copy) begin(ctx context.Context) error {
	_, _, err := c.To.Get(ctx, guard.CopyingKey)
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	for key, err := range c.To.Keys(ctx, "") {
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: it holds %s: copy into a store of its own, or empty this one", ErrNotEmpty, key)
	}
	_, err = c.To.Swap(ctx, guard.CopyingKey, 0, []byte(c.Name))
	return err
}

func (c *Copy) end(ctx context.Context) error {
	_, rev, err := c.To.Get(ctx, guard.CopyingKey)
	if err != nil {
		return err
	}
	_, err = c.To.Swap(ctx, guard.CopyingKey, rev, nil)
	return err
}

// pass copies what changed after since. It returns how many records changed that may not change
// while the store is frozen.
func (c *Copy) pass(ctx context.Context, since store.Rev, p *Progress) (head store.Rev, changed int, err error) {
	g, going := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	var written atomic.Int64
	head, err = c.From.Records(going, since, func(key string, val []byte) error {
		if key == guard.CopyingKey {
			return nil
		}
		p.Changed++
		if !store.PrefixOf(key).WhileFrozen {
			changed++
		}
		g.Go(func() error {
			did, err := c.put(going, key, val)
			if did {
				written.Add(1)
			}
			return err
		})
		return going.Err()
	})
	if failed := g.Wait(); failed != nil {
		err = failed
	}
	p.Written += int(written.Load())
	return head, changed, err
}

func (c *Copy) put(ctx context.Context, key string, val []byte) (written bool, err error) {
	have, rev, err := c.To.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return false, err
	}
	if err == nil && val != nil && bytes.Equal(have, val) || err != nil && val == nil {
		return false, nil
	}
	if _, err := c.To.Swap(ctx, key, rev, val); err != nil {
		return false, fmt.Errorf("copying %s: %w", key, err)
	}
	return true, nil
}

// verify compares both stores, record by record, and removes what is only in To. From may no longer
// remember that such a record was deleted.
func (c *Copy) verify(ctx context.Context) (records int, err error) {
	seen := map[string]bool{guard.CopyingKey: true}
	_, err = c.From.Records(ctx, 0, func(key string, val []byte) error {
		if val == nil || key == guard.CopyingKey {
			return nil
		}
		seen[key] = true
		records++
		if store.PrefixOf(key).WhileFrozen {
			_, err := c.put(ctx, key, val)
			return err
		}
		have, _, err := c.To.Get(ctx, key)
		if err == nil && bytes.Equal(have, val) {
			return nil
		}
		if err == nil || errors.Is(err, store.ErrNotExist) {
			err = fmt.Errorf("%s was changed after everything was to be frozen: is each lockstepd of %s "+
				"of this version, and if they are stopped, are all? Run it again", key, c.Name)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for key, err := range c.To.Keys(ctx, "") {
		if err != nil {
			return 0, err
		}
		if !seen[key] {
			if _, err := c.put(ctx, key, nil); err != nil {
				return 0, err
			}
		}
	}
	return records, nil
}
