package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// besideName returns the name under which a certificate of n is put so that one of the other kind
// stays. That is the second name of n for an RSA certificate where an ECDSA one stands.
func (a *admin) besideName(ctx context.Context, n keysource.Name, p keysource.PEM) (keysource.Name, error) {
	if n.IsSecond() || kindOf(p.Chain) != x509.RSA {
		return n, nil
	}
	first, err := a.find(ctx, n)
	switch {
	case errors.Is(err, keysource.ErrNotExist), errors.Is(err, keysource.ErrBadCertificate),
		errors.Is(err, store.ErrSealed): // what cannot be read is replaced
		return n, nil
	case err != nil:
		return n, fmt.Errorf("the certificate of %s was not stored, since it is not known which kind it has: %w", n,
			err)
	case first.Kind() == x509.ECDSA:
		return n.Second(), nil
	}
	return n, nil
}

// putBeside puts a certificate under the name of [admin.besideName]. An RSA certificate that stands
// there gives way to an ECDSA one: it is moved to the second name. Then every node gets the ECDSA
// one at once. A node that only tried it would have two RSA certificates, which Envoy refuses.
func (a *admin) putBeside(
	ctx context.Context, n keysource.Name, p keysource.PEM, before keysource.Certificate,
) (c keysource.Certificate, moved bool, err error) {
	if a.cfg.Dir != nil {
		// What is served stands in the directory: nothing is moved.
		if _, err := a.cfg.Dir.Certificate(ctx, n); !errors.Is(err, keysource.ErrNotExist) {
			c, err = a.cfg.Catalog.Put(ctx, n, p)
			return c, false, err
		}
	}
	if !n.IsSecond() && before.Kind() == x509.RSA && kindOf(p.Chain) == x509.ECDSA {
		if err := a.release(ctx, n, p); err != nil {
			return c, false, err
		}
	}
	return a.cfg.Catalog.PutBeside(ctx, n, p)
}

// kindOf returns of which kind the key of a chain's leaf is. It is zero if the chain is not good.
func kindOf(chain []byte) x509.PublicKeyAlgorithm {
	return keysource.Certificate{PEM: keysource.PEM{Chain: chain}}.Kind()
}

// otherKind says what to do if a certificate took the place of one of the other kind.
func otherKind(n keysource.Name, before, after keysource.Certificate) []string {
	was, is := before.Kind(), after.Kind()
	if n.IsSecond() || !(was == x509.RSA && is == x509.ECDSA || was == x509.ECDSA && is == x509.RSA) {
		return nil
	}
	return []string{fmt.Sprintf("it replaced the %s certificate of %s: to serve both, put that one again with "+
		"--beside", was, n)}
}
