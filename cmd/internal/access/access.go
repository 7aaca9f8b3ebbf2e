package access

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lockstep-tls/lockstep/store"
)

// Config of [New]. Every field but Unsealed is required.
type Config struct {
	Store   store.Store
	Replica string        // Replica is the name of this replica.
	Refresh time.Duration // Refresh is how often the store is read.
	// Unsealed is asked when a record does not open. An error means that others do not either, and
	// that the record need not be damaged. Nil means that it is.
	Unsealed func(ctx context.Context) error
	Log      *slog.Logger
}

// Access has the tokens and the key in memory. All methods are safe for concurrent use.
type Access struct {
	cfg Config

	mu     sync.Mutex
	tokens map[string]stored // tokens are the records by name.
	// changed says when a token was made or revoked here last. What was read before that is out of
	// date.
	changed uint64
	key     []byte               // key is nil until it was read or made.
	used    map[string]time.Time // used are the proofs that were taken, until they end.
	asks    *rate.Limiter        // asks bounds reads for tokens that are not known.
	failed  bool                 // failed reports whether the last look failed.
}

// New returns an Access that has read nothing yet. The caller calls Look, and then Run.
func New(c Config) *Access {
	return &Access{
		cfg: c, tokens: map[string]stored{}, used: map[string]time.Time{},
		asks: rate.NewLimiter(rate.Every(asksEvery), asksAtOnce),
	}
}

// lookWithin bounds one look at the store.
const lookWithin = 5 * time.Second

// Run reads the store again and again until ctx ends.
func (a *Access) Run(ctx context.Context) error {
	tick := time.NewTicker(a.cfg.Refresh)
	defer tick.Stop()
	for {
		a.Look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Look reads tokens and key, and makes a key if the store has none. After a failure what was read
// before stays.
func (a *Access) Look(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	err := errors.Join(a.lookForKey(within), a.readTokens(within))
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	now := time.Now()
	maps.DeleteFunc(a.used, func(_ string, end time.Time) bool { return now.After(end) })
	before := a.failed
	a.failed = err != nil
	a.mu.Unlock()
	switch {
	case err != nil && !before:
		a.cfg.Log.Warn("tokens and the replicas' key cannot be read; what was read last goes on counting",
			"err", err)
	case err == nil && before:
		a.cfg.Log.Info("tokens and the replicas' key can be read again")
	}
}

// foreign returns an error if err says that a record does not open, and no record does with the
// sealing key of this replica.
func (a *Access) foreign(ctx context.Context, err error) error {
	if !errors.Is(err, store.ErrSealed) || a.cfg.Unsealed == nil {
		return nil
	}
	if why := a.cfg.Unsealed(ctx); why != nil {
		return errors.Join(err, why)
	}
	return nil
}
