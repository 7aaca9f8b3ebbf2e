package keysource

import (
	"crypto/x509"
	"fmt"
)

// candidate is a chain and a key that parsed, and of which the key is the leaf's. Rules look at
// it.
type candidate struct {
	chain []*x509.Certificate // chain has the leaf first
	key   []byte              // key is the DER of a PKCS#8 block; nil if it is not at hand
}

// leaf returns the certificate of the host.
func (c candidate) leaf() *x509.Certificate { return c.chain[0] }

// rule is one reason not to send a certificate.
type rule struct {
	name string
	// why returns what is wrong and what to do about it. It returns "" if the rule has no
	// objection.
	why func(candidate) string
}

// rules are the reasons for which Envoy 1.40 refuses a certificate that Go parses, or for which
// every client refuses it. test/corpus reads their names here, and compares them with a real Envoy
// and real clients. An error of [ParseCertificate] or [DER.Check] names the rule behind "bad
// certificate".
//
// Envoy's reasons stand in source/common/tls/context_impl.cc and server_context_impl.cc, and in
// BoringSSL's ssl/ssl_credential.cc, ssl/ssl_cert.cc, crypto/x509 and crypto/rsa.
var rules = []rule{
	{"rsa-size", rsaSize},
	{"rsa-primes", rsaPrimes},
	{"curve", curve},
	{"structure", structure},
	{"key-usage", keyUsage},
	{"must-staple", mustStaple},
	{"empty-common-name", emptyCommonName},
	{"no-name", noName},
	{"extended-key-usage", extKeyUsage},
	{"critical-extension", criticalExtension},
	{"weak-signature", weakSignature},
	{"issuer-name", issuerName},
	{"authority", authority},
	{"path-length", pathLength},
	{"name-constraints", nameConstraints},
	{"chain-size", chainSize},
}

// obey returns the objection of the first rule that has one. The error wraps [ErrBadCertificate].
func (c candidate) obey() error {
	for _, r := range rules {
		if why := r.why(c); why != "" {
			return fmt.Errorf("%w: %s: %s", ErrBadCertificate, r.name, why)
		}
	}
	return nil
}

// Check applies to d what [ParseDER] applies today, except for signatures, expiry and whether the
// key is the leaf's. It is for what was parsed once, perhaps by an earlier version that knew fewer
// rules. The error wraps [ErrBadCertificate]. What passed is remembered. It is safe for concurrent
// use.
func (d DER) Check() error {
	return checked.check(d)
}
