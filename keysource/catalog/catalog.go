package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Config is what a [Catalog] needs.
type Config struct {
	// Store holds the certificates.
	Store store.Store
	// Refresh is the time between two looks for changes made by other replicas. Default 5 s.
	Refresh time.Duration
	// Changed is called with names that were put or removed, by whomever. It is called from Run's goroutine, must not block, and may name
	// more than changed. nil: nobody wants to know.
	Changed func([]keysource.Name)
	// Before is called before a certificate is stored (with its version) or removed (version ""), once for each change, however
	// often it must be tried; its error refuses the change. nil: nobody is asked.
	Before func(ctx context.Context, n keysource.Name, version string) error
	// BeforeAll is called before many certificates are stored at once; its error refuses them all. nil: nobody is asked.
	BeforeAll func(ctx context.Context, news []Stored) error
	// Log gets what an operator should know. Default: nothing is logged.
	Log *slog.Logger
}

// Catalog is a [keysource.Source]. All methods are safe for concurrent use.
type Catalog struct {
	store   store.Store
	refresh time.Duration
	changed func([]keysource.Name)
	before  func(context.Context, keysource.Name, string) error

	beforeAll func(context.Context, []Stored) error
	ills      ills

	log   *slog.Logger
	wake  chan struct{} // capacity 1
	ready chan struct{} // closed after the first look
	known *known
}

const (
	prefix         = "cert/"
	defaultRefresh = 5 * time.Second
	// tries bounds how often a write starts again because somebody else wrote the same name; more is a loop, not bad luck.
	tries = 10
)

// New returns a catalog. Only [Catalog.Run] needs a goroutine; the other methods work without it.
func New(c Config) *Catalog {
	if c.Refresh <= 0 {
		c.Refresh = defaultRefresh
	}
	if c.Changed == nil {
		c.Changed = func([]keysource.Name) {}
	}
	if c.Before == nil {
		c.Before = func(context.Context, keysource.Name, string) error { return nil }
	}
	if c.BeforeAll == nil {
		c.BeforeAll = func(context.Context, []Stored) error { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Catalog{store: c.Store, refresh: c.Refresh, changed: c.Changed, before: c.Before, beforeAll: c.BeforeAll, log: c.Log, wake: make(chan struct{}, 1), ready: make(chan struct{}), known: newKnown(c.Refresh)}
}

// Certificate implements [keysource.Source]. A certificate that has expired since it was put is returned like any other: the last good one
// stays. A stored value that cannot be read is an error of its own, never [keysource.ErrNotExist].
func (c *Catalog) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	if c.known.lacks(n) {
		return keysource.Certificate{}, fmt.Errorf("%s in the store: %w", n, keysource.ErrNotExist)
	}
	c.known.reads.Add(1)
	var v store.Value
	v.Val, v.Rev, v.Err = c.store.Get(ctx, key(n))
	cert, err := c.read(n, v)
	switch {
	case errors.Is(err, store.ErrNotExist):
		c.known.missed()
		return keysource.Certificate{}, fmt.Errorf("%s in the store: %w", n, keysource.ErrNotExist)
	case err != nil && !errors.Is(err, keysource.ErrBadCertificate):
		return keysource.Certificate{}, fmt.Errorf("reading the certificate of %s: %w", n, err)
	}
	return cert, err
}

// read decodes a stored value, and remembers what is wrong with it.
func (c *Catalog) read(n keysource.Name, v store.Value) (cert keysource.Certificate, err error) {
	if err = v.Err; err == nil {
		cert, err = decode(n, v.Val)
	}
	switch {
	case err == nil:
		c.ills.note(n, expired(cert, time.Now()))
	case errors.Is(err, store.ErrNotExist):
		c.ills.note(n, "")
	case errors.Is(err, keysource.ErrBadCertificate), errors.Is(err, store.ErrSealed):
		c.ills.note(n, err.Error())
	}
	return cert, err
}

// Put stores a chain and its private key (PEM, as [keysource.ParseCertificate] takes them) under n and returns what was stored. It
// replaces whatever is there. Putting the same again changes nothing and wakes nobody.
//
// Refused: a name that [keysource.ServerName] would not return (ErrBadName), a chain or key that is not good, or that does not cover n
// (ErrBadCertificate). After any other error it is not known whether it was stored; to put it again is safe.
func (c *Catalog) Put(ctx context.Context, n keysource.Name, chain, privateKey []byte) (keysource.Certificate, error) {
	cert, next, err := admit(n, chain, privateKey, time.Now())
	if err != nil {
		return keysource.Certificate{}, err
	}
	for try := range tries {
		old, rev, err := c.store.Get(ctx, key(n))
		if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed) { // one that does not open is replaced
			return keysource.Certificate{}, fmt.Errorf("storing the certificate of %s: %w", n, err)
		}
		if have, bad := decode(n, old); err == nil && bad == nil && have.Version() == next.version {
			return cert, nil
		}
		if try == 0 {
			if err := c.before(ctx, n, next.version); err != nil {
				return keysource.Certificate{}, fmt.Errorf("the certificate of %s was not stored: %w", n, err)
			}
		}
		_, err = c.store.Swap(ctx, key(n), rev, next.val)
		switch {
		case err == nil:
			c.ills.note(n, "")
			c.known.put(n)
			c.Wake()
			return cert, nil
		case !errors.Is(err, store.ErrConflict):
			return keysource.Certificate{}, fmt.Errorf("storing the certificate of %s: the outcome is unknown, put it again: %w", n, err)
		}
	}
	return keysource.Certificate{}, fmt.Errorf("storing the certificate of %s: %w %d times; put it again when they have come to rest", n, store.ErrConflict, tries)
}

// Remove deletes the certificate of n, readable or not. The error wraps [keysource.ErrNotExist] if there is none. After any other error it
// is not known whether it was removed; to remove it again is safe.
func (c *Catalog) Remove(ctx context.Context, n keysource.Name) error {
	for try := range tries {
		_, rev, err := c.store.Get(ctx, key(n))
		switch {
		case errors.Is(err, store.ErrNotExist):
			return fmt.Errorf("%s in the store: %w", n, keysource.ErrNotExist)
		case err != nil && !errors.Is(err, store.ErrSealed):
			return fmt.Errorf("removing the certificate of %s: %w", n, err)
		}
		if try == 0 {
			if err := c.before(ctx, n, ""); err != nil {
				return fmt.Errorf("the certificate of %s was not removed: %w", n, err)
			}
		}
		_, err = c.store.Swap(ctx, key(n), rev, nil)
		switch {
		case err == nil:
			c.ills.note(n, "")
			c.Wake()
			return nil
		case !errors.Is(err, store.ErrConflict):
			return fmt.Errorf("removing the certificate of %s: the outcome is unknown, remove it again: %w", n, err)
		}
	}
	return fmt.Errorf("removing the certificate of %s: %w %d times; remove it again when they have come to rest", n, store.ErrConflict, tries)
}

func key(n keysource.Name) string { return store.Key("cert", string(n)) }
