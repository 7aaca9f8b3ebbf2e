package edgeproxy

import (
	"bytes"
	"crypto/tls"
	"os"
	"sync"
)

// pair is the certificate that upstreams are shown. Its files are renewed meanwhile, and they are
// read at each handshake. What cannot be used, such as a certificate whose key is not there yet,
// leaves the one of before in use.
type pair struct {
	cert, key string // files

	mu   sync.Mutex
	text [2][]byte // what the files held
	good *tls.Certificate
}

func (p *pair) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, err := os.ReadFile(p.cert)
	if err != nil {
		return p.last(), nil
	}
	key, err := os.ReadFile(p.key)
	if err != nil {
		return p.last(), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !bytes.Equal(cert, p.text[0]) || !bytes.Equal(key, p.text[1]) {
		if c, err := tls.X509KeyPair(cert, key); err == nil {
			p.text, p.good = [2][]byte{cert, key}, &c
		}
	}
	return p.good, nil
}

func (p *pair) last() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good
}
