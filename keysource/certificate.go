package keysource

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// PEM is a chain and its private key, as a file, a request or a secret holds them. Nothing of it is
// checked.
type PEM struct {
	Chain []byte // Chain is leaf first.
	Key   []byte
}

// Equal reports whether p and q are the same, byte for byte.
func (p PEM) Equal(q PEM) bool {
	return bytes.Equal(p.Chain, q.Chain) && bytes.Equal(p.Key, q.Key)
}

// Certificate is what a node needs to serve one name. [ParseCertificate] makes values, and nobody
// changes them.
type Certificate struct {
	PEM // PEM is what is sent. Its Key is one PKCS#8 block.

	Names []string // DNS names of the leaf
	// Issuer is the issuer's distinguished name. Another issuer ends the tickets of the host
	// (Envoy's session context).
	Issuer    string
	NotBefore time.Time
	NotAfter  time.Time
}

// maxPEM is how many bytes are parsed at most. A chain of RSA-4096 certificates with long lists of
// names stays far below.
const maxPEM = 1 << 20

const unsupportedKey = "private key: %s, Envoy takes ECDSA on P-256, P-384 and P-521, RSA and Ed25519: have it " +
	"issued for such a key"

// ParseCertificate checks a chain and its private key (PKCS#8, PKCS#1 or SEC1) and returns them in
// the form that is sent. Text around the blocks is left out.
//
// It refuses PEM that is broken or cut short, an encrypted key, and a key of another certificate.
// It refuses a chain whose links do not sign each other. It refuses what Envoy or every client
// refuses. It refuses a leaf or an issuer that has expired or is not valid yet at now. The error
// wraps [ErrBadCertificate] and says what is wrong.
//
// The zero now leaves the validity unchecked. It is for reading back what was accepted while it
// was valid, and must go on being served.
func ParseCertificate(p PEM, now time.Time) (Certificate, error) {
	c, _, err := ParseDER(p, now)
	return c, err
}

// ParseDER does what ParseCertificate does, and returns the certificate as DER too.
func ParseDER(p PEM, now time.Time) (Certificate, DER, error) {
	bad := func(format string, a ...any) (Certificate, DER, error) {
		return Certificate{}, DER{}, fmt.Errorf("%w: %s", ErrBadCertificate, fmt.Sprintf(format, a...))
	}
	if len(p.Chain) > maxPEM || len(p.Key) > maxPEM {
		return bad("more than %d bytes of PEM", maxPEM)
	}
	leaf, after, known := ends.cutLeaf(p.Chain)
	certs := append([]*x509.Certificate{leaf}, after.certs...)
	if !known {
		var err error
		if certs, err = parseChain(p.Chain); err != nil {
			if kind := unsupportedKind(p.Key); kind != "" {
				return bad(unsupportedKey, kind)
			}
			return bad("chain: %v", err)
		}
		leaf = certs[0]
	}
	signer, given, err := parseKey(p.Key)
	if err != nil {
		if kind := unsupportedKind(p.Key); kind != "" {
			return bad(unsupportedKey, kind)
		}
		return bad("private key: %v", err)
	}
	switch i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return signs(signer, c) }); {
	case i < 0:
		return bad("the private key does not belong to the certificate (serial %s)", leaf.SerialNumber.Text(16))
	case i > 0:
		return bad("the private key belongs to certificate %d of the chain: that one must come first", i)
	}
	if err := sound(certs, known, now); err != nil {
		return Certificate{}, DER{}, err
	}
	der := DER{Key: given}
	if !plainP256(given, leaf) {
		if der.Key, err = x509.MarshalPKCS8PrivateKey(signer); err != nil {
			return bad("private key: %v", err)
		}
	}
	if err := (candidate{certs, der.Key}).obey(); err != nil {
		return Certificate{}, DER{}, err
	}
	for _, c := range certs {
		der.Chain = append(der.Chain, c.Raw)
	}
	if !known {
		after.pem = appendChain(nil, der.Chain[1:])
		ends.remember(p.Chain, certs, after.pem)
	}
	sent := PEM{
		Chain: slices.Concat(appendChain(nil, der.Chain[:1]), after.pem),
		Key:   appendPEM(nil, typeKey, der.Key),
	}
	return Certificate{
		PEM:       sent,
		Names:     slices.Clone(leaf.DNSNames),
		Issuer:    leaf.Issuer.String(),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
	}, der, nil
}

// sound refuses a chain that is not valid now, or whose links do not sign each other. The issuers
// that are known were checked when they were met first.
func sound(certs []*x509.Certificate, known bool, now time.Time) error {
	if why := outsideValidity(certs, now); why != "" && !now.IsZero() {
		return fmt.Errorf("%w: %s", ErrBadCertificate, why)
	}
	for i, c := range certs[1:] {
		if known && i > 0 {
			break
		}
		if err := certs[i].CheckSignatureFrom(c); err != nil {
			return fmt.Errorf("%w: certificate %d of the chain is not signed by the next: %v",
				ErrBadCertificate, i, err)
		}
	}
	return nil
}

// CheckChain says of a chain whose private key is not at hand what [ParseCertificate] and
// [Certificate.CheckName] say of it together with its key, in the same words. It is for a plan. The
// error wraps [ErrBadCertificate].
func CheckChain(chain []byte, n Name, now time.Time) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrBadCertificate, fmt.Sprintf(format, a...))
	}
	if len(chain) > maxPEM {
		return bad("more than %d bytes of PEM", maxPEM)
	}
	certs, err := parseChain(chain)
	if err != nil {
		return bad("chain: %v", err)
	}
	if err := sound(certs, false, now); err != nil {
		return err
	}
	if err := (candidate{chain: certs}).obey(); err != nil {
		return err
	}
	return Certificate{Names: certs[0].DNSNames}.CheckName(n)
}

// CheckName refuses a certificate under a name that it does not cover. The error wraps
// [ErrBadCertificate].
func (c Certificate) CheckName(n Name) error {
	if c.Covers(n) {
		return nil
	}
	return fmt.Errorf("%w: it is for %.200q, not for %s: clients would refuse it there", ErrBadCertificate, c.Names, n)
}

// Covers reports whether the certificate is valid for n, as a client would check it.
func (c Certificate) Covers(n Name) bool {
	wild := n.Wildcard()
	for _, d := range c.Names {
		// Most names are written in normal form.
		if n != "" && (d == string(n) || wild != "" && d == string(wild)) {
			return true
		}
		if have, err := ServerName(d); err == nil && (have == n || have == wild) {
			return true
		}
	}
	return false
}

// Fingerprint returns the SHA-256 of the leaf, in lower-case hexadecimal. It is what openssl x509
// -fingerprint -sha256 shows with colons. It is empty if there is no leaf.
func (c Certificate) Fingerprint() string {
	leaf, _ := pem.Decode(c.Chain)
	if leaf == nil {
		return ""
	}
	sum := sha256.Sum256(leaf.Bytes)
	return hex.EncodeToString(sum[:])
}

// Version returns a hash of all that is sent. So replicas agree on it, and a node that reconnects
// with the same version is sent nothing.
func (c Certificate) Version() string {
	h := sha256.New()
	for _, part := range [][]byte{c.Chain, c.Key} {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
