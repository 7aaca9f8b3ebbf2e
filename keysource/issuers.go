package keysource

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"sync"
)

// ends remembers the ends of chains, all after the leaf, that were good. A million leaves have few
// issuers. To parse these again and to check that they sign each other is a large part of checking
// a leaf. It has only certificates, no keys, and is safe for concurrent use.
var ends = endsOf{byText: map[string]end{}}

const (
	maxEnds    = 256
	maxEndText = 16 << 10 // bytes; a longer end is not remembered
)

type endsOf struct {
	mu     sync.RWMutex
	byText map[string]end // by the PEM that was given
}

// end is what follows a leaf in a chain. It is never changed.
type end struct {
	certs []*x509.Certificate
	pem   []byte // the PEM as it is sent
}

// cutLeaf parses the first block of a chain, and returns what follows it. ok is true only if two
// things hold. That block is a certificate without a broken block before it, and what follows is
// an end that is known to be good.
func (e *endsOf) cutLeaf(chain []byte) (leaf *x509.Certificate, after end, ok bool) {
	block, rest := pem.Decode(chain)
	if block == nil || block.Type != "CERTIFICATE" || bytes.Count(chain[:len(chain)-len(rest)], begin) != 1 {
		return nil, end{}, false
	}
	e.mu.RLock()
	after, ok = e.byText[string(rest)]
	e.mu.RUnlock()
	if !ok {
		return nil, end{}, false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	return leaf, after, err == nil
}

// remember keeps the end of a chain that is good as a whole.
func (e *endsOf) remember(chain []byte, certs []*x509.Certificate, asSent []byte) {
	block, rest := pem.Decode(chain)
	if block == nil || !bytes.Equal(block.Bytes, certs[0].Raw) || len(rest) > maxEndText ||
		bytes.Count(rest, begin) != len(certs)-1 {
		return // or it contains something else, such as a key
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.byText) >= maxEnds {
		clear(e.byText)
	}
	e.byText[string(rest)] = end{certs[1:], asSent}
}
