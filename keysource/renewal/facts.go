package renewal

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// facts is what is compared of a certificate.
type facts struct {
	chain []*x509.Certificate // chain has the leaf first.
	above []*x509.Certificate // above are the intermediates: roots are left out.
	cert  keysource.Certificate
}

func read(c keysource.Certificate) (f facts, ok bool) {
	f.cert = c
	for block, rest := pem.Decode(c.Chain); block != nil; block, rest = pem.Decode(rest) {
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return f, false
		}
		if len(f.chain) > 0 && !selfIssued(one) {
			f.above = append(f.above, one)
		}
		f.chain = append(f.chain, one)
	}
	return f, len(f.chain) > 0
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// validity is the time for which the leaf and the intermediates that every client uses are valid.
// The last one of three or more may be a cross-certificate, which some clients do not use.
func (f facts) validity() (from, until time.Time) {
	from, until = f.chain[0].NotBefore, f.chain[0].NotAfter
	used := f.above
	if len(f.chain) > 2 && len(used) == len(f.chain)-1 {
		used = used[:len(used)-1]
	}
	for _, ca := range used {
		if ca.NotBefore.After(from) {
			from = ca.NotBefore
		}
		if ca.NotAfter.Before(until) {
			until = ca.NotAfter
		}
	}
	return from, until
}

// lostIssuer returns the intermediate of old that issued the leaf, if the leaf stands alone.
func (f facts) lostIssuer(old facts) *x509.Certificate {
	if len(f.chain) > 1 {
		return nil
	}
	for _, ca := range old.above {
		if bytes.Equal(f.chain[0].RawIssuer, ca.RawSubject) && f.chain[0].CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// has reports whether the intermediates have one of that subject.
func (f facts) has(subject []byte) bool {
	return slices.ContainsFunc(f.above, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, subject) })
}

func (f facts) last() *x509.Certificate { return f.chain[len(f.chain)-1] }

// root is the CA that clients must know.
func (f facts) root() string { return f.last().Issuer.String() }

func (f facts) rawRoot() []byte { return f.last().RawIssuer }

// rootKey tells the keys of CAs of one name apart. It is empty if the chain does not say.
func (f facts) rootKey() []byte {
	if len(f.chain) > 1 && selfIssued(f.last()) {
		return f.last().SubjectKeyId
	}
	return f.last().AuthorityKeyId
}

// names are the names for which a client takes the leaf.
func (f facts) names() (out []string) {
	leaf := f.chain[0]
	out = slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		out = append(out, ip.String())
	}
	for _, uri := range leaf.URIs {
		out = append(out, uri.String())
	}
	return out
}

// serves reports whether a client that wants name takes the leaf. A wildcard serves the names below
// it.
func (f facts) serves(name string) bool {
	if n, err := keysource.ServerName(name); err == nil && f.cert.Covers(n) {
		return true
	}
	return slices.Contains(f.names(), name)
}

// key is the kind and the strength of a leaf's key.
type key struct {
	kind string
	bits int
}

func (k key) String() string {
	switch k.kind {
	case "RSA":
		return fmt.Sprintf("RSA of %d bits", k.bits)
	case "ECDSA":
		return fmt.Sprintf("ECDSA on P-%d", k.bits)
	}
	return k.kind
}

func (f facts) key() key {
	switch k := f.chain[0].PublicKey.(type) {
	case *rsa.PublicKey:
		return key{"RSA", k.N.BitLen()}
	case *ecdsa.PublicKey:
		return key{"ECDSA", k.Curve.Params().BitSize}
	case ed25519.PublicKey:
		return key{"Ed25519", 0}
	}
	return key{kind: "another one"}
}

// alone warns of a leaf that stands alone and says where its issuer's certificate is to be had. A
// CA that says so mostly issues from an intermediate.
func alone(f facts) string {
	leaf := f.chain[0]
	if len(f.chain) > 1 || selfIssued(leaf) || len(leaf.IssuingCertificateURL) == 0 {
		return ""
	}
	return fmt.Sprintf("its chain is the leaf alone: if %.100q is an intermediate, clients that do not have it refuse "+
		"the host; put the whole chain (fullchain.pem)", leaf.Issuer)
}

// usage warns of RSA and Ed25519 keys that may not sign. Envoy serves them.
func usage(f facts) string {
	leaf := f.chain[0]
	if leaf.KeyUsage == 0 || leaf.KeyUsage&x509.KeyUsageDigitalSignature != 0 {
		return ""
	}
	return "its keyUsage lacks digitalSignature: some clients, such as GnuTLS, refuse it; have it issued with that " +
		"usage"
}
