package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// Restore says how a backup is brought back.
type Restore struct {
	Store store.Store
	By    string // By is who asks, for the history.
	Plan  bool   // Plan only says what would change.
	// Before is called before each change that is made, one call at a time. Its error ends the
	// restore. It may be nil.
	Before func(ctx context.Context, c Change) error
	// Ring restores the ring of a scope if a coordinator looks after it, and then ok is true. It
	// may be nil.
	Ring func(ctx context.Context, scope string, record []byte) (r rotation.Restored, ok bool, err error)
}

// These say what becomes of a record.
const (
	Added    = "added"
	Replaced = "replaced" // The backup's record replaces the store's.
	Merged   = "merged"
	Same     = "same"
	Kept     = "kept"     // The store's record stays.
	Left     = "left out" // The record is not for this store.
)

// Change is what becomes of one record.
type Change struct {
	Key  string
	What string
	Why  string   // Why is in words.
	Back []string // Back are the IDs of ticket keys that come back.
	// Refused are ticket keys that do not come back, each with its reason.
	Refused []string
}

// Summary is what a restore did.
type Summary struct {
	Made   time.Time // Made is when the backup was made.
	Counts map[string]int
	// Details leaves out certificates that were added or are the same. They are maxDetails at most.
	Details []Change
}

// Shown returns the summary as the API shows it.
func (s Summary) Shown(plan bool) api.Restored {
	out := api.Restored{Made: s.Made, Plan: plan, Counts: s.Counts, Details: []api.RestoredItem{}}
	for _, c := range s.Details {
		out.Details = append(out.Details, api.RestoredItem(c))
	}
	return out
}

const (
	maxDetails = 1000
	atOnce     = 8 // atOnce certificates are written together, to share the store's syncs.
)

// ErrRefused means that a record of the backup may not come in. The records before it are in the
// store, unless this was a plan.
var ErrRefused = errors.New("refused")

// Run brings back what r holds by the following rules. It removes nothing that is only in the
// store.
//
//	cert/   the backup's replaces the store's
//	ring/   merged, see [rotation.Restore]
//	audit/  all of it if the store has no log, else what is missing of the same log
//	others  added where the store has none of that name
//
// A ring or a certificate of the store that is damaged counts as none.
//
// Every record is checked first, so a plan finds what would be refused. Run can be repeated after
// any interruption.
func (o Restore) Run(ctx context.Context, r *Reader) (Summary, error) {
	sum := Summary{Made: r.Made, Counts: map[string]int{}}
	log := &chain{}
	switch _, _, err := o.Store.Get(ctx, auditKey); {
	case err == nil:
		log.there = true
	case !errors.Is(err, store.ErrNotExist):
		return sum, err
	}
	changes := make(chan Change)
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for c := range changes {
			sum.Counts[c.What]++
			plain := store.Certificates.Has(c.Key) && (c.What == Added || c.What == Same)
			if !plain && len(sum.Details) < maxDetails {
				sum.Details = append(sum.Details, c)
			}
		}
	}()
	g, going := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	err := o.all(going, r, func(key string, val []byte) error {
		do := func() error {
			c, err := o.one(going, key, val, log)
			if err == nil {
				changes <- c
			}
			return err
		}
		if store.Certificates.Has(key) {
			g.Go(do)
			return nil
		}
		return do()
	})
	if failed := g.Wait(); failed != nil {
		err = failed
	}
	close(changes)
	<-counted
	return sum, err
}

func (o Restore) all(ctx context.Context, r *Reader, f func(key string, val []byte) error) error {
	for ctx.Err() == nil {
		key, val, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(key, val)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// chain is the audit log of the store. Its key (package audit) says whether it is the backup's. In
// byte order, the key comes before the older lines.
type chain struct {
	there bool // there reports whether the store had one before the restore.
	same  bool
}

var auditKey = store.AuditLog.Key("key")

// one brings back one record. It starts again if somebody else changed the record meanwhile.
func (o Restore) one(ctx context.Context, key string, val []byte, log *chain) (Change, error) {
	for {
		have, rev, err := o.Store.Get(ctx, key)
		// Of a ring or a certificate that is damaged nothing is of use.
		broken := errors.Is(err, store.ErrSealed) && (store.Rings.Has(key) || store.Certificates.Has(key))
		if errors.Is(err, store.ErrNotExist) || broken {
			have, err = nil, nil
		}
		if err != nil {
			return Change{}, err
		}
		c, next, err := o.decide(ctx, key, have, val, log)
		if broken && c.What == Added {
			c.What, c.Why = Replaced, strings.TrimPrefix(c.Why+"; the store's was damaged", "; ")
		}
		if err != nil {
			return c, fmt.Errorf("%w: %s: %w", ErrRefused, key, err)
		}
		if next == nil || o.Plan {
			return c, nil
		}
		if o.Before != nil {
			if err := o.Before(ctx, c); err != nil {
				return c, err
			}
		}
		if _, err = o.Store.Swap(ctx, key, rev, next); err == nil || !errors.Is(err, store.ErrConflict) {
			return c, err
		}
	}
}

// decide returns what becomes of a record, and what is to be written, or nil.
func (o Restore) decide(
	ctx context.Context, key string, have, val []byte, log *chain,
) (c Change, next []byte, err error) {
	c = Change{Key: key}
	name, err := store.Segment(key)
	if err != nil {
		return c, nil, err
	}
	switch {
	case leftOut(key):
		c.What, c.Why = Left, "it was only true where the backup was made"
		return c, nil, nil
	case store.Rings.Has(key):
		return o.ring(ctx, c, name, have, val)
	case store.Certificates.Has(key):
		if val, err = catalog.Check(keysource.Name(name), val); err != nil {
			return c, nil, err
		}
	case store.AuditLog.Has(key) && log.there:
		if key == auditKey {
			log.same = bytes.Equal(have, val)
		}
		if have == nil && log.same { // older lines of the same chain
			break
		}
		if c.What = Same; !bytes.Equal(have, val) {
			c.What, c.Why = Kept, "the store has an audit log that goes on, and chains cannot be merged; the "+
				"backup's stays in the backup"
		}
		return c, nil, nil
	}
	switch {
	case have == nil:
		c.What = Added
	case bytes.Equal(have, val):
		c.What = Same
		return c, nil, nil
	case store.Certificates.Has(key):
		c.What = Replaced
	default:
		c.What, c.Why = Kept, "the store has one"
		return c, nil, nil
	}
	return c, val, nil
}

func (o Restore) ring(ctx context.Context, c Change, scope string, have, val []byte) (Change, []byte, error) {
	now, err := o.Store.Now(ctx)
	if err != nil {
		return c, nil, err
	}
	next, r, err := rotation.Restore(scope, o.By, have, val, now, keysource.NewTicketKey)
	if err != nil {
		return c, nil, err
	}
	if o.Ring != nil && !o.Plan && r.Changed {
		done, ok, err := o.Ring(ctx, scope, val)
		if err != nil {
			return c, nil, err
		}
		if ok {
			r, next = done, nil
		}
	}
	c.Back, c.Refused = r.Back, r.Refused
	switch {
	case !r.Changed && len(r.Refused) > 0:
		c.What, next = Kept, nil
	case !r.Changed:
		c.What, next = Same, nil
	case have == nil:
		c.What = Added
	default:
		c.What = Merged
	}
	c.Why = "the ring is " + r.Version
	return c, next, nil
}
