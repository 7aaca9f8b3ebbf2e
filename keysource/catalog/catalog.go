package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
	"github.com/lockstep-tls/lockstep/store"
)

// Config is what a [Catalog] needs.
type Config struct {
	// Store holds the certificates.
	Store store.Store
	// Refresh is the time between two looks for changes made by other replicas. Default 5 s.
	Refresh time.Duration
	// Changed is called with names that were put or removed, by whomever. Run's goroutine calls
	// it, so it must not block. It may name more than what changed. It may be nil.
	Changed func([]keysource.Name)
	// Before is called before a certificate is stored (with its version) or removed (with version
	// ""). It is called once for each change, however often the change must be tried. Its error
	// refuses the change. It may be nil.
	Before func(ctx context.Context, n keysource.Name, version string) error
	// BeforeAll is called before many certificates are stored at once. Its error refuses all of
	// them. It may be nil.
	BeforeAll func(ctx context.Context, news []Stored) error
	// Log gets what an operator should know. If it is nil, nothing is logged.
	Log *slog.Logger
}

// Catalog is a [keysource.Source]. All methods are safe for concurrent use.
type Catalog struct {
	store   store.Store
	refresh time.Duration
	changed func([]keysource.Name)
	before  func(context.Context, keysource.Name, string) error

	beforeAll func(context.Context, []Stored) error
	problems  problems
	warned    warned

	log   *slog.Logger
	wake  chan struct{} // capacity 1
	ready chan struct{} // closed after the first look
	known *knownNames
	ends  *ends
}

var prefix = store.Certificates.All()

const (
	defaultRefresh = 5 * time.Second
	// maxTries bounds how often a write starts again because somebody else wrote the same name.
	// More tries than that mean a loop, not bad luck.
	maxTries = 10
)

// New returns a catalog. Only [Catalog.Run] needs a goroutine. The other methods work without it.
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
	return &Catalog{
		store: c.Store, refresh: c.Refresh, changed: c.Changed, before: c.Before, beforeAll: c.BeforeAll, log: c.Log,
		wake: make(chan struct{}, 1), ready: make(chan struct{}), known: newKnownNames(c.Refresh), ends: newEnds(),
	}
}

// Certificate implements [keysource.Source]. A certificate that has expired since it was put is
// returned like any other: the last good one stays. If a stored value cannot be read, the error is
// never [keysource.ErrNotExist].
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

// read decodes a stored value, and notes what is wrong with it.
func (c *Catalog) read(n keysource.Name, v store.Value) (cert keysource.Certificate, err error) {
	if err = v.Err; err == nil {
		cert, err = decode(n, v.Val)
	}
	switch {
	case err == nil:
		cert.Warnings = c.warned.of(n, cert)
		c.problems.add(BadEntry{n, expired(cert, time.Now()), true})
	case errors.Is(err, store.ErrNotExist):
		c.problems.note(n, "")
	case errors.Is(err, keysource.ErrBadCertificate), errors.Is(err, store.ErrSealed):
		c.problems.note(n, err.Error())
	}
	return cert, err
}

// Put stores a chain and its private key under n, and returns what was stored. It replaces what is
// there. Putting the same again changes nothing and wakes nobody. What looks worse than before
// stands in the Warnings of what is returned.
//
// Put refuses what cannot serve while what is there can; see [renewal.Judge]. If it will be valid
// within five seconds, Put waits.
//
// Put refuses a name that [keysource.CertName] would not return (ErrBadName). It refuses a chain
// or key that is not good, or that does not cover n (ErrBadCertificate). After any other error it
// is not known whether the certificate was stored, and it is safe to put it again.
func (c *Catalog) Put(ctx context.Context, n keysource.Name, p keysource.PEM) (keysource.Certificate, error) {
	return c.put(ctx, n, p, nil)
}

// put does what Put does. If beside is not nil, it is called with what is there, before that is
// replaced. If it returns true, both stay, so the two are not compared.
func (c *Catalog) put(
	ctx context.Context, n keysource.Name, p keysource.PEM, beside func(have keysource.Certificate) (bool, error),
) (keysource.Certificate, error) {
	cert, next, err := admit(n, p, time.Now())
	if err != nil {
		return keysource.Certificate{}, err
	}
	for try := range maxTries {
		old, rev, err := c.store.Get(ctx, key(n))
		// A value that does not open is replaced.
		if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed) {
			return keysource.Certificate{}, fmt.Errorf("storing the certificate of %s: %w", n, err)
		}
		have, bad := decode(n, old)
		if there := err == nil && bad == nil; !there {
			cert.Warnings = renewal.First(cert)
		} else if have.Version() == next.version {
			cert.Warnings = c.warned.of(n, have)
			return cert, nil
		} else if cert.Warnings, err = c.judge(ctx, n, have, cert); err != nil {
			return keysource.Certificate{}, err
		} else if beside != nil {
			both, err := beside(have)
			if err != nil {
				return keysource.Certificate{}, err
			}
			if both {
				cert.Warnings = renewal.First(cert)
			}
		}
		if try == 0 {
			if err := c.before(ctx, n, next.version); err != nil {
				return keysource.Certificate{}, fmt.Errorf("the certificate of %s was not stored: %w", n, err)
			}
		}
		_, err = c.store.Swap(ctx, key(n), rev, next.val)
		switch {
		case err == nil:
			c.problems.note(n, "")
			c.known.put(n)
			c.warn(ctx, []warning{{n, next.version, cert.Warnings}})
			c.besides(ctx, n)
			c.Wake()
			return cert, nil
		case !errors.Is(err, store.ErrConflict):
			return keysource.Certificate{},
				fmt.Errorf("storing the certificate of %s: the outcome is unknown, put it again: %w", n, err)
		}
	}
	return keysource.Certificate{}, fmt.Errorf("storing the certificate of %s: %w %d times; "+
		"put it again when they have come to rest", n, store.ErrConflict, maxTries)
}

// Remove deletes the certificate of n, whether or not it can be read. The error wraps
// [keysource.ErrNotExist] if there is none. After any other error it is not known whether it was
// removed, and it is safe to remove it again.
func (c *Catalog) Remove(ctx context.Context, n keysource.Name) error {
	for try := range maxTries {
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
			c.problems.note(n, "")
			c.warn(ctx, []warning{{name: n}})
			c.Wake()
			return nil
		case !errors.Is(err, store.ErrConflict):
			return fmt.Errorf("removing the certificate of %s: the outcome is unknown, remove it again: %w", n, err)
		}
	}
	return fmt.Errorf("removing the certificate of %s: %w %d times; remove it again when they have come to rest", n,
		store.ErrConflict, maxTries)
}

func key(n keysource.Name) string { return store.Certificates.Key(string(n)) }
