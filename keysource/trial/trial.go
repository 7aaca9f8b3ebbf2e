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

// Config is what a [Records] needs.
type Config struct {
	Store   store.Store
	Replica string // the name of this replica
	// Refresh is the time between two looks for what other replicas wrote. The default is 5 s.
	Refresh time.Duration
	// Changed is called with names whose records were written, by whomever. It must not block. It
	// may be nil.
	Changed func([]keysource.Name)
	// Log gets what an operator should know. If it is nil, nothing is logged.
	Log *slog.Logger
}

// Records reads and writes the records. All methods are safe for concurrent use.
type Records struct {
	cfg   Config
	wake  chan struct{} // capacity 1
	ready chan struct{} // closed after the first look

	mu    sync.Mutex
	known map[keysource.Name]knownRecord
}

// knownRecord is a record as it was read or written last.
type knownRecord struct {
	record
	rev store.Rev
	at  time.Time // when this revision was first seen, by this machine's clock
}

var prefix = store.Trials.All()

const (
	defaultRefresh = 5 * time.Second
	maxTries       = 10 // of a write, if others write the same record
	maxKnown       = 10_000
	keepRefused    = 30 * 24 * time.Hour
)

// errFull means that there are too many records: no trial is begun until some are gone.
var errFull = errors.New("too many changed certificates are on trial")

// New returns a Records that has read nothing yet. Only [Records.Run] needs a goroutine.
func New(c Config) *Records {
	if c.Refresh <= 0 {
		c.Refresh = defaultRefresh
	}
	if c.Changed == nil {
		c.Changed = func([]keysource.Name) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Records{cfg: c, wake: make(chan struct{}, 1), ready: make(chan struct{}),
		known: map[keysource.Name]knownRecord{}}
}

// Claim asks that node go first of its kind with a content of n, and returns the verdict that
// counts. Another node may have been first, and may have answered already. A content that was
// released counts as accepted. After an error it is not known whether the claim was recorded, and
// it may be repeated.
func (t *Records) Claim(ctx context.Context, n keysource.Name, version, kind, node string) (out keysource.Verdict,
	err error) {
	err = t.change(ctx, n, func(r *record, now time.Time) (bool, error) {
		c := r.of(version, now)
		if c.Released {
			out = keysource.Verdict{Outcome: keysource.Accepted}
			return false, nil
		}
		o := c.Kinds[kind]
		switch {
		case o == nil && len(c.Kinds) >= maxKinds:
			return false, fmt.Errorf("%w: there are %d kinds of nodes", errFull, len(c.Kinds))
		case o == nil:
			if c.Kinds == nil {
				c.Kinds = map[string]*firstNode{}
			}
			o = &firstNode{State: keysource.Trying.String(), Replica: t.cfg.Replica, Node: node, Since: now.UTC()}
			c.Kinds[kind] = o
		// An earlier claim, from before a restart.
		case o.Replica == t.cfg.Replica && o.outcome() == keysource.Trying && o.Node != node:
			o.Node, o.Since = node, now.UTC()
		default:
			out = o.verdict(t.cfg.Replica)
			return false, nil
		}
		out = o.verdict(t.cfg.Replica)
		return true, nil
	})
	return out, err
}

// Settle records how a trial of this replica ended. It does nothing if the content is no longer on
// trial.
func (t *Records) Settle(ctx context.Context, n keysource.Name, version, kind string, how keysource.Outcome,
	words string) error {
	return t.change(ctx, n, func(r *record, now time.Time) (bool, error) {
		c := r.Contents[version]
		if c == nil || c.Kinds[kind] == nil || c.Kinds[kind].Replica != t.cfg.Replica ||
			c.Kinds[kind].outcome() != keysource.Trying {
			return false, nil
		}
		o := c.Kinds[kind]
		o.State, o.Words, o.Since = how.String(), boundWords(words), now.UTC()
		return true, nil
	})
}

// Release gives a content to every node at once, whatever a node says of it.
func (t *Records) Release(ctx context.Context, n keysource.Name, version string) error {
	return t.change(ctx, n, func(r *record, now time.Time) (bool, error) {
		c := r.of(version, now)
		if c.Released {
			return false, nil
		}
		c.Released, c.Kinds = true, nil
		return true, nil
	})
}

// change rewrites the record of n by f. f reports whether there is anything to write, and may be
// called several times.
func (t *Records) change(ctx context.Context, n keysource.Name, f func(*record, time.Time) (bool, error)) error {
	for range maxTries {
		val, rev, err := t.cfg.Store.Get(ctx, key(n))
		var r record
		switch {
		// A record that does not open is replaced.
		case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrSealed):
		case err != nil:
			return fmt.Errorf("reading who gets the certificate of %s first: %w", n, err)
		default:
			if r, err = decode(val); errors.Is(err, errNewer) {
				return err
			}
		}
		if rev == 0 && t.full() {
			return errFull
		}
		write, err := f(&r, time.Now())
		if err != nil {
			return err
		}
		if !write {
			t.note(n, knownRecord{r, rev, time.Now()})
			return nil
		}
		if val, err = r.encode(); err != nil {
			return err
		}
		rev, err = t.cfg.Store.Swap(ctx, key(n), rev, val)
		switch {
		case err == nil:
			t.note(n, knownRecord{r, rev, time.Now()})
			return nil
		case !errors.Is(err, store.ErrConflict):
			return fmt.Errorf("writing who gets the certificate of %s first: %w", n, err)
		}
	}
	return fmt.Errorf("writing who gets the certificate of %s first: %w %d times", n, store.ErrConflict, maxTries)
}

func (t *Records) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known) >= maxKnown
}

// note remembers p, unless something newer is known.
func (t *Records) note(n keysource.Name, p knownRecord) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if have, ok := t.known[n]; p.rev == 0 || ok && have.rev >= p.rev {
		return
	}
	t.known[n] = p
}

// Known returns from memory what is recorded of a content: whether every node gets it at once, and
// the verdict for each kind of node.
func (t *Records) Known(n keysource.Name, version string) (released bool, kinds map[string]keysource.Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.known[n].Contents[version]
	if c == nil {
		return false, nil
	}
	kinds = make(map[string]keysource.Verdict, len(c.Kinds))
	for kind, o := range c.Kinds {
		kinds[kind] = o.verdict(t.cfg.Replica)
	}
	return c.Released, kinds
}

func key(n keysource.Name) string { return store.Trials.Key(string(n)) }
