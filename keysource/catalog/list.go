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
	// Warnings say what looks worse than in the certificate that it replaced, or wrong in itself.
	Warnings []string
	Problem  string // why it cannot be served, or that it has expired; empty if nothing is wrong
}

// List yields, by name, the certificates whose names begin with start, from the first one after
// the name after. An empty start means all names, an empty after means from the first. List reads
// some at a time, so it may or may not show a change that is made meanwhile. The names before
// after cost nothing if the store can begin in the middle. A record that cannot be read is an
// entry with a Problem. List ends after an error, which is the store's.
func (c *Catalog) List(ctx context.Context, start, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var keys []string
		most := listFirst
		emit := func() bool {
			for i, v := range store.GetAll(ctx, c.store, keys) {
				e, err := c.entry(keys[i], v)
				if errors.Is(err, store.ErrNotExist) { // removed meanwhile
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

// listFirst is how many certificates are read at first. Then it is twice as many each time.
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

// entry returns the list's entry for a key and its value.
func (c *Catalog) entry(key string, v store.Value) (Entry, error) {
	e := Entry{Name: keysource.Name(listName(key))}
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
	e.Problem, e.Warnings = expired(cert, time.Now()), cert.WarningsAt(time.Now())
	return e, nil
}

// expired says since when c has expired. It is empty if c has not.
func expired(c keysource.Certificate, now time.Time) string {
	if !now.After(c.NotAfter) {
		return ""
	}
	return "expired at " + c.NotAfter.UTC().Format(time.RFC3339)
}

// keys yields the store's keys in the order of the names. That order differs from the store's in
// one point. The "*" of a wildcard is the first character of a name. In a key it is escaped
// ("=2A"), and comes after the digits. The ":" of an IPv6 address and of a second certificate comes
// after the digits and before the letters, escaped ("=3A") or not.
func (c *Catalog) keys(ctx context.Context, start, after string) iter.Seq2[string, error] {
	from := keyAfter(after)
	if start != "" {
		return c.store.KeysAfter(ctx, key(keysource.Name(start)), from)
	}
	pastWildcards := wildcards + "\xff" // all wildcards are before it
	return func(yield func(string, error) bool) {
		// An after below "*" is no server name. It may be the name of a folder.
		if after < "*" || strings.HasPrefix(after, "*") {
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
		for k, err := range c.store.KeysAfter(ctx, prefix, max(from, pastWildcards)) {
			if !yield(k, err) {
				return
			}
		}
	}
}

// wildcards is the prefix of the keys of wildcards.
var wildcards = key("*")

// colon is how a key has the ":" of an IPv6 address.
var colon = key(":")[len(prefix):]

// listName is the name under which a key is listed. It is the name of the certificate. If the key
// is not that of a name, it is the rest of the key. So the list has one order, in which pages can
// continue.
func listName(key string) string {
	if host, ok := strings.CutSuffix(key, secondEnd); ok {
		return string(keysource.Name(listName(host)).Second())
	}
	if rest, ok := strings.CutPrefix(key, wildcards); ok {
		return "*" + rest
	}
	return strings.ReplaceAll(strings.TrimPrefix(key, prefix), colon, ":")
}

// secondEnd is the end of the key of a second certificate.
var secondEnd = strings.TrimPrefix(key(keysource.Name("").Second()), prefix)

// keyAfter is the inverse of listName: the names after after have keys behind it, whatever they
// are.
func keyAfter(after string) string {
	if after == "" {
		return ""
	}
	if n := keysource.Name(after); n.IsSecond() {
		return keyAfter(string(n.Host())) + secondEnd
	}
	if rest, ok := strings.CutPrefix(after, "*"); ok {
		return wildcards + rest
	}
	return prefix + strings.ReplaceAll(after, ":", colon)
}
