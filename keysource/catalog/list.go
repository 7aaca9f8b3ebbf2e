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

// List yields the certificates whose names begin with start ("": all), by name, from the one after after ("": from the first). It reads them as it goes,
// some at a time, so a change made meanwhile may be seen or not, and those before after cost nothing where the store can begin in the middle. A
// record that cannot be read is an entry with a Problem. After an error, that of the store, it ends.
func (c *Catalog) List(ctx context.Context, start, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var keys []string
		most := listFirst
		emit := func() bool {
			for i, v := range store.GetAll(ctx, c.store, keys) {
				e, err := c.entry(keys[i], v)
				if errors.Is(err, store.ErrNotExist) { // removed since
					continue
				}
				if err != nil {
					yield(Entry{}, fmt.Errorf("listing certificates: %w", err))
					return false
				}
				if !yield(e, nil) {
					return false
				}
			}
			keys, most = keys[:0], min(2*most, store.MaxBulk)
			return true
		}
		for key, err := range c.keys(ctx, start, after) {
			if err != nil {
				yield(Entry{}, fmt.Errorf("listing certificates: %w", err))
				return
			}
			if keys = append(keys, key); len(keys) == most && !emit() {
				return
			}
		}
		emit()
	}
}

// listFirst is how many are read at first; then twice as many each time.
const listFirst = 16

func (c *Catalog) entry(key string, v store.Value) (Entry, error) {
	name, err := store.Segment(key)
	if err != nil {
		return Entry{Name: keysource.Name(key), Problem: err.Error()}, nil
	}
	e := Entry{Name: keysource.Name(name)}
	cert, err := c.read(e.Name, v)
	switch {
	case errors.Is(err, keysource.ErrBadCertificate), errors.Is(err, store.ErrSealed):
		e.Problem = err.Error()
		return e, nil
	case err != nil:
		return e, err
	}
	e.Version, e.Issuer, e.NotAfter = cert.Version(), cert.Issuer, cert.NotAfter
	e.Problem = expired(cert, time.Now())
	return e, nil
}

// expired says since when; empty: it has not.
func expired(c keysource.Certificate, now time.Time) string {
	if !now.After(c.NotAfter) {
		return ""
	}
	return "expired at " + c.NotAfter.UTC().Format(time.RFC3339)
}

// keys yields the store's keys in the order of the names, which differs in one point: the "*" of a wildcard is the first character of a name,
// and escaped ("=2A") it would come after the digits.
func (c *Catalog) keys(ctx context.Context, start, after string) iter.Seq2[string, error] {
	from := lower(after)
	if start != "" {
		return store.KeysAfter(ctx, c.store, key(keysource.Name(start)), from)
	}
	wildcards := key("*")
	behind := wildcards + "\xff" // all of them
	return func(yield func(string, error) bool) {
		if after == "" || strings.HasPrefix(after, "*") {
			for k, err := range store.KeysAfter(ctx, c.store, wildcards, from) {
				if !yield(k, err) || err != nil {
					return
				}
			}
			from = ""
		}
		if from < wildcards {
			for k, err := range store.KeysAfter(ctx, c.store, prefix, from) {
				if err == nil && k >= wildcards {
					break
				}
				if !yield(k, err) || err != nil {
					return
				}
			}
		}
		for k, err := range store.KeysAfter(ctx, c.store, prefix, max(from, behind)) {
			if !yield(k, err) {
				return
			}
		}
	}
}

// lower is the key behind which the names after after begin. It may be what no key is: the name of a key that is none (see entry), or of a folder.
func lower(after string) string {
	switch {
	case after == "" || strings.HasPrefix(after, prefix):
		return after
	case strings.Contains(after, "/"):
		return prefix + after
	}
	return key(keysource.Name(after))
}
