package trial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Config is what a [Book] needs.
type Config struct {
	Store   store.Store
	Replica string // this one's name
	// Refresh is the time between two looks for what other replicas wrote. Default 5 s.
	Refresh time.Duration
	// Changed is called with names whose records were written, by whomever. It must not block. Nil: nobody wants to know.
	Changed func([]keysource.Name)
	// Log gets what an operator should know. Default: nothing is logged.
	Log *slog.Logger
}

// Book reads and writes the records. All methods are safe for concurrent use.
type Book struct {
	cfg   Config
	wake  chan struct{} // capacity 1
	ready chan struct{} // closed after the first look

	mu    sync.Mutex
	known map[keysource.Name]page
}

// page is a record as it was read or written last.
type page struct {
	record
	rev store.Rev
	at  time.Time // when this revision was met, by this machine's clock
}

const (
	prefix         = "trial/"
	defaultRefresh = 5 * time.Second
	tries          = 10 // of a write, if others write the same record
	maxKnown       = 10_000
	keepRefused    = 30 * 24 * time.Hour
)

// ErrFull means that there are too many records: no trial is begun until some are gone.
var ErrFull = errors.New("too many changed certificates are on trial")

// New returns a book that was not read yet. Only [Book.Run] needs a goroutine.
func New(c Config) *Book {
	if c.Refresh <= 0 {
		c.Refresh = defaultRefresh
	}
	if c.Changed == nil {
		c.Changed = func([]keysource.Name) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Book{cfg: c, wake: make(chan struct{}, 1), ready: make(chan struct{}), known: map[keysource.Name]page{}}
}

// Claim asks that node go first of its kind with a content of n, and returns what counts: another may have been first, and may have
// answered already. A content that was released counts as accepted. After an error it is not known whether the claim stands; it may be
// made again.
func (b *Book) Claim(ctx context.Context, n keysource.Name, version, kind, node string) (out keysource.Verdict, err error) {
	err = b.change(ctx, n, func(r *record, now time.Time) (bool, error) {
		c := r.of(version, now)
		if c.Released {
			out = keysource.Verdict{Outcome: keysource.Accepted}
			return false, nil
		}
		o := c.Kinds[kind]
		switch {
		case o == nil && len(c.Kinds) >= maxKinds:
			return false, fmt.Errorf("%w: there are %d kinds of nodes", ErrFull, len(c.Kinds))
		case o == nil:
			if c.Kinds == nil {
				c.Kinds = map[string]*one{}
			}
			o = &one{State: keysource.Trying.String(), Replica: b.cfg.Replica, Node: node, Since: now.UTC()}
			c.Kinds[kind] = o
		case o.Replica == b.cfg.Replica && o.outcome() == keysource.Trying && o.Node != node: // an earlier claim, of before a restart
			o.Node, o.Since = node, now.UTC()
		default:
			out = o.verdict(b.cfg.Replica)
			return false, nil
		}
		out = o.verdict(b.cfg.Replica)
		return true, nil
	})
	return out, err
}

// Settle writes down how a trial of this replica's ended. A content that is no longer on trial is left alone.
func (b *Book) Settle(ctx context.Context, n keysource.Name, version, kind string, how keysource.Outcome, words string) error {
	return b.change(ctx, n, func(r *record, now time.Time) (bool, error) {
		c := r.Contents[version]
		if c == nil || c.Kinds[kind] == nil || c.Kinds[kind].Replica != b.cfg.Replica || c.Kinds[kind].outcome() != keysource.Trying {
			return false, nil
		}
		o := c.Kinds[kind]
		o.State, o.Words, o.Since = how.String(), cut(words), now.UTC()
		return true, nil
	})
}

// Release gives a content to every node at once, whatever a node says of it.
func (b *Book) Release(ctx context.Context, n keysource.Name, version string) error {
	return b.change(ctx, n, func(r *record, now time.Time) (bool, error) {
		c := r.of(version, now)
		if c.Released {
			return false, nil
		}
		c.Released, c.Kinds = true, nil
		return true, nil
	})
}

// change rewrites the record of n by f, which reports whether there is anything to write. f may be called several times.
func (b *Book) change(ctx context.Context, n keysource.Name, f func(*record, time.Time) (bool, error)) error {
	for range tries {
		val, rev, err := b.cfg.Store.Get(ctx, key(n))
		var r record
		switch {
		case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrSealed): // one that does not open is replaced
		case err != nil:
			return fmt.Errorf("reading who gets the certificate of %s first: %w", n, err)
		default:
			if r, err = decode(val); errors.Is(err, errNewer) {
				return err
			}
		}
		if rev == 0 && b.full() {
			return ErrFull
		}
		write, err := f(&r, time.Now())
		if err != nil {
			return err
		}
		if !write {
			b.note(n, page{r, rev, time.Now()})
			return nil
		}
		if val, err = r.encode(); err != nil {
			return err
		}
		rev, err = b.cfg.Store.Swap(ctx, key(n), rev, val)
		switch {
		case err == nil:
			b.note(n, page{r, rev, time.Now()})
			return nil
		case !errors.Is(err, store.ErrConflict):
			return fmt.Errorf("writing who gets the certificate of %s first: %w", n, err)
		}
	}
	return fmt.Errorf("writing who gets the certificate of %s first: %w %d times", n, store.ErrConflict, tries)
}

func (b *Book) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.known) >= maxKnown
}

// note remembers p, unless something newer is known.
func (b *Book) note(n keysource.Name, p page) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if have, ok := b.known[n]; p.rev == 0 || ok && have.rev >= p.rev {
		return
	}
	b.known[n] = p
}

// Known returns, from memory, what stands of a content: whether every node gets it at once, and what became of it by kind of node.
func (b *Book) Known(n keysource.Name, version string) (released bool, kinds map[string]keysource.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.known[n].Contents[version]
	if c == nil {
		return false, nil
	}
	kinds = make(map[string]keysource.Verdict, len(c.Kinds))
	for kind, o := range c.Kinds {
		kinds[kind] = o.verdict(b.cfg.Replica)
	}
	return c.Released, kinds
}

func key(n keysource.Name) string { return store.Key("trial", string(n)) }
