package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Entry is one stored certificate, without its key.
type Entry struct {
	Name     keysource.Name
	Version  string
	Issuer   string
	NotAfter time.Time
	Problem  string // why it cannot be served, or that it has expired; empty: nothing
}

// List yields the certificates whose names begin with start ("": all), by name. It reads them one by one as it goes, so a change made
// meanwhile may be seen or not. A record that cannot be read is an entry with a Problem. After an error, that of the store, it ends.
func (c *Catalog) List(ctx context.Context, start string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for key, err := range c.keys(ctx, start) {
			var e Entry
			if err == nil {
				e, err = c.entry(ctx, key)
			}
			if errors.Is(err, store.ErrNotExist) { // removed since
				continue
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("listing certificates: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (c *Catalog) entry(ctx context.Context, key string) (Entry, error) {
	name, err := store.Segment(key)
	if err != nil {
		return Entry{Name: keysource.Name(key), Problem: err.Error()}, nil
	}
	e := Entry{Name: keysource.Name(name)}
	val, _, err := c.store.Get(ctx, key)
	if errors.Is(err, store.ErrSealed) {
		e.Problem = err.Error()
		return e, nil
	}
	if err != nil {
		return e, err
	}
	cert, err := decode(e.Name, val)
	if err != nil {
		e.Problem = err.Error()
		return e, nil
	}
	e.Version, e.Issuer, e.NotAfter = cert.Version(), cert.Issuer, cert.NotAfter
	if time.Now().After(e.NotAfter) {
		e.Problem = "expired at " + e.NotAfter.UTC().Format(time.RFC3339)
	}
	return e, nil
}

// keys yields the store's keys in the order of the names, which differs in one point: the "*" of a wildcard is the first character of a name,
// and escaped ("=2A") it would come after the digits.
func (c *Catalog) keys(ctx context.Context, start string) iter.Seq2[string, error] {
	if start != "" {
		return c.store.Keys(ctx, key(keysource.Name(start)))
	}
	wildcards := key("*")
	return func(yield func(string, error) bool) {
		for k, err := range c.store.Keys(ctx, wildcards) {
			if !yield(k, err) || err != nil {
				return
			}
		}
		for k, err := range c.store.Keys(ctx, prefix) {
			if err == nil && strings.HasPrefix(k, wildcards) {
				continue
			}
			if !yield(k, err) {
				return
			}
		}
	}
}
