package sds

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// history is what is kept of a name whose certificate changed, or that has none that can be
// served. Most names have no history.
type history struct {
	good    []*xds.Resource // earlier certificates that no node refused, newest first
	refused []string        // contents that a node refused, newest last
	standIn *xds.Resource   // nil until it is needed
}

const (
	maxGood    = 2
	maxRefused = 8
)

// keepGood keeps what was sent so far, for nodes that refuse what comes now. The caller holds mu.
func (e *entry) keepGood(old, now *xds.Resource) {
	if old == nil || old.StandIn {
		return
	}
	p := e.keepHistory()
	p.good = slices.DeleteFunc(p.good, func(r *xds.Resource) bool {
		return r.Version == old.Version ||
			r.Version == now.Version
	})
	if !slices.Contains(p.refused, contentOf(old)) {
		p.good = slices.Insert(p.good, 0, old)
	}
	if len(p.good) > maxGood {
		p.good = p.good[:maxGood]
	}
}

// keepHistory returns the history of e, and makes it if there is none.
func (e *entry) keepHistory() *history {
	if e.history == nil {
		e.history = &history{}
	}
	return e.history
}

// contentOf returns the version of r's content.
func contentOf(r *xds.Resource) string {
	content, _ := xds.Content(r.Version)
	return content
}

// Cure implements [xds.Varying].
//
// A certificate that a node refused is replaced by the last good one, preferably by the one that
// the node had accepted. If there is none, the name is removed where clients choose the names. In
// a chain of its own a removal changes nothing, so there the name gets a stand-in. A ring has no
// remedy of its own, since the cause is one of the certificates.
func (t *Table) Cure(node xds.Node, name, refused, accepted string, try int) (*xds.Resource, xds.Remedy) {
	if _, ring := keysource.RingScope(name); ring {
		return nil, xds.Retry
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.certs[name]
	if e == nil || e.name == "" {
		return nil, xds.Retry
	}
	p := e.keepHistory()
	t.suspects[e] = struct{}{}
	if !slices.Contains(p.refused, refused) {
		p.refused = append(p.refused, refused)
		if len(p.refused) > maxRefused {
			p.refused = p.refused[1:]
		}
	}
	good := slices.DeleteFunc(slices.Clone(p.good), func(r *xds.Resource) bool {
		return slices.Contains(p.refused, contentOf(r)) && contentOf(r) != accepted
	})
	slices.SortStableFunc(good, func(a, b *xds.Resource) int {
		switch accepted {
		case contentOf(a):
			return -1
		case contentOf(b):
			return 1
		}
		return 0
	})
	if try < len(good) {
		return good[try], xds.Replace
	}
	try -= len(good)
	if node.Service == xds.ADS && !node.Eager && e.asked != keysource.ChainName(e.name) {
		if try == 0 {
			return nil, xds.Remove
		}
		try--
	}
	if try == 0 {
		if r := e.makeStandIn(t); r != nil {
			return r, xds.Replace
		}
	}
	return nil, xds.Hopeless
}

// standInLife is how long a stand-in is valid.
const standInLife = 30 * 24 * time.Hour

// makeStandIn returns a certificate that every Envoy loads and no client trusts. It is
// self-signed, for the name. The caller holds mu.
func (e *entry) makeStandIn(t *Table) *xds.Resource {
	p := e.keepHistory()
	t.suspects[e] = struct{}{}
	if p.standIn != nil {
		return p.standIn
	}
	r, err := standInFor(e.asked, e.name)
	if err != nil {
		t.cfg.Log.Error("a stand-in for a certificate cannot be made", "name", e.asked, "err", err)
		return nil
	}
	p.standIn = r
	return r
}

// selfSigned returns a new self-signed certificate for n, and for the domain of a wildcard. It is
// RSA for a second certificate.
func selfSigned(n keysource.Name, now time.Time) (keysource.Certificate, error) {
	var key crypto.Signer
	var err error
	if n.IsSecond() {
		key, err = standInKey()
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	n = n.Host()
	if err != nil {
		return keysource.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return keysource.Certificate{}, err
	}
	names := []string{string(n)}
	if strings.HasPrefix(string(n), "*.") {
		names = append(names, strings.TrimPrefix(string(n), "*."))
	}
	template := &x509.Certificate{
		SerialNumber: serial, DNSNames: names,
		Subject: pkix.Name{CommonName: "Lockstep stand-in",
			Organization: []string{"no certificate of this name can be served"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(standInLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if a, ok := n.Address(); ok {
		template.DNSNames, template.IPAddresses = nil, []net.IP{a.AsSlice()}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return keysource.Certificate{}, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keysource.Certificate{}, err
	}
	return keysource.ParseCertificate(keysource.DER{Chain: [][]byte{der}, Key: raw}.PEM(), now)
}
