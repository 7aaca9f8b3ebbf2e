package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// apart says which RSA certificate beside the ECDSA one makes tickets of a host not pass between
// two nodes: Envoy binds a ticket to all certificates of a chain. It is empty if both nodes have
// the same, or none. With an error that is not known.
func (p *Prover) apart(ctx context.Context, one, other, host string) (string, error) {
	var leaves [2]*x509.Certificate
	for i, addr := range []string{one, other} {
		var err error
		if leaves[i], err = p.rsaLeaf(ctx, addr, host); err != nil {
			return "", err
		}
	}
	a, b := leaves[0], leaves[1]
	switch {
	case a == nil && b == nil, a != nil && b != nil && sameContext(a, b, host):
		return "", nil
	case a != nil && b != nil:
		return fmt.Sprintf("%s and %s have different RSA certificates of it", one, other), nil
	case a == nil:
		one, other = other, one
	}
	return fmt.Sprintf("%s has an RSA certificate of it, and %s has none", one, other), nil
}

// rsaLeaf returns the certificate that a node shows to a client of a host that can do RSA only. It
// is nil if the node has none. With an error that is not known, as where a node takes no TLS 1.2.
func (p *Prover) rsaLeaf(ctx context.Context, addr, host string) (*x509.Certificate, error) {
	c := Config{SNI: clientName(host), Insecure: true}
	chain, err := c.rsaChain(ctx, addr)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) { // as in dial
		c.ProxyProtocol = 2
		chain, err = c.rsaChain(ctx, addr)
	}
	if said := alert(0); errors.As(err, &said) && said != protocolVersion {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}
