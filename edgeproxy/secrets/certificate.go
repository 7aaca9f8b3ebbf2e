package secrets

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds/wire"
	"github.com/lockstep-tls/lockstep/xds"
)

// certificate is a certificate that is served, under one name or several.
type certificate struct {
	tls    *tls.Certificate // has its Leaf
	covers keysource.Certificate

	version string
}

// sharedCertificates finds certificates that are held already by their version, which is a hash of
// all that is sent. So the certificate of a wildcard is held once, not once for each name under
// it. The zero value is ready for use.
type sharedCertificates struct {
	mu  sync.Mutex
	all map[string]weak.Pointer[certificate]
}

// parse checks r and makes it ready for handshakes. The error names it, and quotes no key.
func (e *sharedCertificates) parse(r *xds.Resource) (*certificate, error) {
	e.mu.Lock()
	known := e.all[r.Version]
	e.mu.Unlock()
	c := known.Value()
	if c == nil {
		var err error
		if c, err = parse(r); err != nil {
			return nil, err
		}
		e.remember(c)
	}
	if !c.covers.Covers(keysource.Name(r.Name)) {
		return nil, fmt.Errorf("%q: %w: it is for %.200q", r.Name, keysource.ErrBadCertificate, c.covers.Names)
	}
	return c, nil
}

func (e *sharedCertificates) remember(c *certificate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = make(map[string]weak.Pointer[certificate])
	}
	e.all[c.version] = weak.Make(c)
	runtime.AddCleanup(c, e.forget, c.version)
}

func (e *sharedCertificates) forget(version string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all[version].Value() == nil {
		delete(e.all, version)
	}
}

func parse(r *xds.Resource) (*certificate, error) {
	p, err := wire.Certificate(r)
	if err != nil {
		return nil, err
	}
	c, err := build(p)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", r.Name, err)
	}
	if c.version != r.Version {
		return nil, fmt.Errorf("%q: %w: it is not that of version %s", r.Name, keysource.ErrBadCertificate, r.Version)
	}
	return c, nil
}

// restore does what parse does for a certificate that was kept.
func (e *sharedCertificates) restore(p keysource.PEM) (*certificate, error) {
	c, err := build(p)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	known := e.all[c.version]
	e.mu.Unlock()
	if have := known.Value(); have != nil {
		return have, nil
	}
	e.remember(c)
	return c, nil
}

// build checks a certificate, except for its expiry, which is checked when it is served.
func build(p keysource.PEM) (*certificate, error) {
	c, der, err := keysource.ParseDER(p, time.Time{})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keysource.ErrBadCertificate, err)
	}
	signer, err := x509.ParsePKCS8PrivateKey(der.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: its private key cannot be parsed", keysource.ErrBadCertificate)
	}
	version := c.Version()
	c.PEM = keysource.PEM{} // its DER is kept instead
	return &certificate{&tls.Certificate{Certificate: der.Chain, PrivateKey: signer, Leaf: leaf}, c, version}, nil
}

// whole undoes build. There is no error if build made c.
func (c *certificate) whole() (keysource.Certificate, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.tls.PrivateKey)
	if err != nil {
		return keysource.Certificate{}, err
	}
	out := c.covers
	out.PEM = keysource.DER{Chain: c.tls.Certificate, Key: key}.PEM()
	return out, nil
}
