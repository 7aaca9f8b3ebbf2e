package sds

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// past is what is kept of a name whose certificate changed, or that has none that can be served. Most names have none.
type past struct {
	good    []*xds.Resource // earlier certificates that no node refused, the newest first
	refused []string        // contents that a node refused, the newest last
	standIn *xds.Resource   // nil until it is needed
}

const (
	maxGood    = 2
	maxRefused = 8
)

// replaced keeps what was sent so far, for nodes that refuse what comes now. The caller holds mu.
func (e *entry) replaced(old, now *xds.Resource) {
	if old == nil || old.StandIn {
		return
	}
	p := e.history()
	p.good = slices.DeleteFunc(p.good, func(r *xds.Resource) bool { return r.Version == old.Version || r.Version == now.Version })
	if !slices.Contains(p.refused, contentOf(old)) {
		p.good = slices.Insert(p.good, 0, old)
	}
	if len(p.good) > maxGood {
		p.good = p.good[:maxGood]
	}
}

func (e *entry) history() *past {
	if e.past == nil {
		e.past = &past{}
	}
	return e.past
}

func contentOf(r *xds.Resource) string {
	content, _ := xds.Content(r.Version)
	return content
}

// Cure implements [xds.Varying]. A certificate that a node refused is replaced by the last good one, best of
// all the one that the node had accepted. If there is none, it is removed where clients choose the names.
// What is left is a chain of its own, in which a removal changes nothing: it gets a stand-in. A ring has no
// remedy of its own: what ails it is one of the certificates.
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
	p := e.history()
	t.ill[e] = struct{}{}
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
		if r := e.placeholder(t); r != nil {
			return r, xds.Replace
		}
	}
	return nil, xds.Hopeless
}

// standInFor is how long a stand-in is valid.
const standInFor = 30 * 24 * time.Hour

// placeholder is a certificate that every Envoy loads and no client believes: self-signed, for the name. The
// caller holds mu.
func (e *entry) placeholder(t *Table) *xds.Resource {
	p := e.history()
	t.ill[e] = struct{}{}
	if p.standIn != nil {
		return p.standIn
	}
	c, err := selfSigned(e.name, time.Now())
	if err == nil {
		p.standIn, err = certificateResource(e.asked, c)
	}
	if err != nil {
		t.cfg.Log.Error("a stand-in for a certificate cannot be made", "name", e.asked, "err", err)
		return nil
	}
	p.standIn.Version, p.standIn.StandIn = "stand-in-"+p.standIn.Version, true
	return p.standIn
}

func selfSigned(n keysource.Name, now time.Time) (keysource.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
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
		Subject:   pkix.Name{CommonName: "Lockstep stand-in", Organization: []string{"no certificate of this name can be served"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(standInFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
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
