package keysource

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"sync"
)

// checked remembers which certificates obeyed the rules, by a hash of what would be sent.
var checked = checkedCertificates{leaves: map[[sha256.Size]byte]struct{}{}, issuers: map[string]*x509.Certificate{}}

const (
	maxChecked = 32 << 10 // leaves; 32 bytes each
	maxIssuers = 256
)

type checkedCertificates struct {
	mu      sync.RWMutex
	leaves  map[[sha256.Size]byte]struct{}
	issuers map[string]*x509.Certificate // by DER; many leaves have the same issuers
}

// check applies the rules to d, unless d obeyed them before.
func (p *checkedCertificates) check(d DER) error {
	if len(d.Chain) == 0 {
		return fmt.Errorf("%w: there is no certificate", ErrBadCertificate)
	}
	sum := d.sum()
	p.mu.RLock()
	_, ok := p.leaves[sum]
	p.mu.RUnlock()
	if ok {
		return nil
	}
	c := candidate{key: d.Key}
	for i, raw := range d.Chain {
		cert, err := p.parse(raw, i > 0)
		if err != nil {
			return fmt.Errorf("%w: certificate %d of the chain: %v", ErrBadCertificate, i, err)
		}
		c.chain = append(c.chain, cert)
	}
	if err := c.obey(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.leaves) >= maxChecked {
		clear(p.leaves)
	}
	p.leaves[sum] = struct{}{}
	return nil
}

// parse parses a certificate. It remembers those of issuers.
func (p *checkedCertificates) parse(raw []byte, issuer bool) (*x509.Certificate, error) {
	if !issuer {
		return x509.ParseCertificate(raw)
	}
	p.mu.RLock()
	c := p.issuers[string(raw)]
	p.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil || len(raw) > maxEndText {
		return c, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.issuers) >= maxIssuers {
		clear(p.issuers)
	}
	p.issuers[string(raw)] = c
	return c, nil
}

// sum returns a hash of the key and the chain. Each part follows its length, so that parts cannot
// run into each other.
func (d DER) sum() (out [sha256.Size]byte) {
	h := sha256.New()
	var length [8]byte
	for i := range len(d.Chain) + 1 {
		part := d.Key
		if i > 0 {
			part = d.Chain[i-1]
		}
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	h.Sum(out[:0])
	return out
}
