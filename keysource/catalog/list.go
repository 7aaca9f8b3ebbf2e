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
	Leaf     string // fingerprint
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

// Names yields the name of every certificate of the store, in the order of its keys. It reads no
// certificate. After an error it ends.
func (c *Catalog) Names(ctx context.Context) iter.Seq2[keysource.Name, error] {
	return func(yield func(keysource.Name, error) bool) {
		for key, err := range c.store.Keys(ctx, prefix) {
			if err != nil {
				yield("", err)
				return
			}
			name, err := store.Segment(key)
			if err == nil && !yield(keysource.Name(name), nil) {
				return
			}
		}
	}
}

func (c *Catalog) entry(key string, v store.Value) (Entry, error) {
	e := Entry{Name: keysource.Name(listed(key))}
	if name, err := store.Segment(key); err != nil || name != string(e.Name) {
		e.Problem = fmt.Sprintf("the store's key %q is not that of a server name: nobody can ask for it", key)
		return e, nil
	}
	cert, err := c.read(e.Name, v)
	switch {
	case errors.Is(err, keysource.ErrBadCertificate), errors.Is(err, store.ErrSealed):
		e.Problem = err.Error()
		return e, nil
	case err != nil:
		return e, err
	}
	e.Version, e.Leaf, e.Issuer, e.NotAfter = cert.Version(), cert.Fingerprint(), cert.Issuer, cert.NotAfter
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
		return c.store.KeysAfter(ctx, key(keysource.Name(start)), from)
	}
	behind := wildcards + "\xff" // all of them
	return func(yield func(string, error) bool) {
		if after < "*" || strings.HasPrefix(after, "*") { // what is less is a folder's name
			for k, err := range c.store.KeysAfter(ctx, wildcards, from) {
				if !yield(k, err) || err != nil {
					return
				}
			}
			from = ""
		}
		if from < wildcards {
			for k, err := range c.store.KeysAfter(ctx, prefix, from) {
				if err == nil && k >= wildcards {
					break
				}
				if !yield(k, err) || err != nil {
					return
				}
			}
		}
		for k, err := range c.store.KeysAfter(ctx, prefix, max(from, behind)) {
			if !yield(k, err) {
				return
			}
		}
	}
}

// wildcards is how the keys of wildcards begin.
var wildcards = key("*")

// listed is the name under which a key is listed: that of a certificate, or for what is no such key the rest of it, so that the order of the list is one order of
// names, in which pages can go on.
func listed(key string) string {
	if rest, ok := strings.CutPrefix(key, wildcards); ok {
		return "*" + rest
	}
	return strings.TrimPrefix(key, prefix)
}

// lower undoes listed: it is the key behind which the names after after begin, whatever they are.
func lower(after string) string {
	if after == "" {
		return ""
	}
	if rest, ok := strings.CutPrefix(after, "*"); ok {
		return wildcards + rest
	}
	return prefix + after
}
