package probe

import (
	"context"
	"crypto/x509"
	"sync"

	"golang.org/x/sync/errgroup"
)

// VerifyOnlyRSA makes Verify's tries as a client that cannot do ECDSA, if the host has an ECDSA and
// an RSA certificate at some of the addresses. Then such a client must be served at all of them. The
// matrix is empty if no address shows both.
func VerifyOnlyRSA(ctx context.Context, c Config) (Matrix, error) {
	if err := c.check(); err != nil {
		return Matrix{}, err
	}
	one := c
	one.OnlyRSA = true
	var mu sync.Mutex
	both := false
	g := new(errgroup.Group)
	g.SetLimit(atOnce)
	for _, addr := range c.Addrs {
		g.Go(func() error {
			second, err := dial(ctx, addr, one, nil, false)
			if err != nil || second.Leaf.PublicKeyAlgorithm != x509.RSA {
				return nil
			}
			first, err := dial(ctx, addr, c, nil, false)
			mu.Lock()
			defer mu.Unlock()
			both = both || err == nil && first.Leaf.PublicKeyAlgorithm != x509.RSA
			return nil
		})
	}
	g.Wait() // nothing fails: what nodes do wrong is in Verify's matrix
	if !both {
		return Matrix{}, ctx.Err()
	}
	return Verify(ctx, one)
}
