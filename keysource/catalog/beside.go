package catalog

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/lockstep-tls/lockstep/keysource"
)

// PutBeside puts an ECDSA certificate under n, the name of a host. If an RSA certificate stands
// there, that one is put under the second name of n before it is replaced, so that the host has
// both. moved reports that. An RSA certificate that may not be put any more, such as one that has
// expired, is only replaced.
//
// For all else PutBeside is [Catalog.Put]. If it fails between the two, the RSA certificate stands
// under both names, and PutBeside can be called again.
func (c *Catalog) PutBeside(
	ctx context.Context, n keysource.Name, p keysource.PEM,
) (cert keysource.Certificate, moved bool, err error) {
	cert, err = c.put(ctx, n, p, func(have keysource.Certificate) (bool, error) {
		if n.IsSecond() || have.Kind() != x509.RSA || (keysource.Certificate{PEM: p}).Kind() != x509.ECDSA {
			return false, nil
		}
		_, err := c.Put(ctx, n.Second(), have.PEM)
		if errors.Is(err, keysource.ErrBadCertificate) {
			return false, nil
		}
		moved = err == nil
		return moved, err
	})
	return cert, moved, err
}
