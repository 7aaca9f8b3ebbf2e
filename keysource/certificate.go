package keysource

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// PEM is a chain and its private key, as a file, a request or a secret holds them. Nothing of it is
// checked.
type PEM struct {
	Chain []byte // Chain is leaf first.
	Key   []byte // Key is empty if Chain holds the private key, too.
}

// Equal reports whether p and q are the same, byte for byte.
func (p PEM) Equal(q PEM) bool {
	return bytes.Equal(p.Chain, q.Chain) && bytes.Equal(p.Key, q.Key)
}

// Certificate is what a node needs to serve one name. [ParseCertificate] makes values, and nobody
// changes them.
type Certificate struct {
	PEM // PEM is what is sent. Its Key is one PKCS#8 block.

	Names []string // DNS names of the leaf, and then its IP addresses
	// Issuer is the issuer's distinguished name. Another issuer ends the tickets of the host
	// (Envoy's session context).
	Issuer    string
	NotBefore time.Time
	NotAfter  time.Time
	// Notes say what of the PEM that was given was put in order or left out. They are not kept.
	Notes []string
	// Warnings say what looked worse than in the certificate that it replaced. The source that took
	// it says so. [Certificate.WarningsAt] has all of them.
	Warnings []string
}

// maxPEM is how many bytes are parsed at most. A chain of RSA-4096 certificates with long lists of
// names stays far below.
const maxPEM = 1 << 20

const unsupportedKey = "private key: %s, Envoy takes ECDSA on P-256, P-384 and P-521, RSA and Ed25519: have it " +
	"issued for such a key"

// ParseCertificate checks a chain and its private key (PKCS#8, PKCS#1 or SEC1) and returns them in
// the form that is sent. Text around the blocks is left out.
//
// What every client would read anyway is put in order, and [Certificate].Notes says so: the text's
// encoding, labels, the order of the chain, and what stands there twice.
//
// It refuses PEM that is broken or cut short, an encrypted key, and a key of another certificate.
// It refuses a chain that is none, or may be one of several. It refuses what Envoy or every client
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
	keyPEM := p.Key
	if len(keyPEM) == 0 {
		keyPEM = p.Chain
	}
	leaf, after, known := ends.cutLeaf(p.Chain)
	if known && len(after.certs) > 0 {
		known = leaf.CheckSignatureFrom(after.certs[0]) == nil
	}
	certs := append([]*x509.Certificate{leaf}, after.certs...)
	var notes []string
	if !known {
		var err error
		if certs, notes, err = parseChain(p.Chain); err != nil {
			if kind := unsupportedKind(keyPEM); kind != "" {
				return bad(unsupportedKey, kind)
			}
			return bad("chain: %v", err)
		}
	}
	signer, keyNotes, err := parseKey(keyPEM, certs)
	if err != nil {
		if kind := unsupportedKind(keyPEM); kind != "" {
			return bad(unsupportedKey, kind)
		}
		return bad("private key: %v", err)
	}
	at := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return signs(signer, c) })
	if at < 0 {
		return bad("the private key does not belong to the certificate (serial %s)", certs[0].SerialNumber.Text(16))
	}
	if !known {
		var moved []string
		if certs, moved, err = arrange(certs, at, now); err != nil {
			return Certificate{}, DER{}, err
		}
		notes = append(notes, moved...)
	}
	notes = append(notes, largeIssuers(certs)...)
	leaf = certs[0]
	if err := inTime(certs, now); err != nil {
		return Certificate{}, DER{}, err
	}
	der := DER{Key: signer.pkcs8}
	if !plainP256(signer.pkcs8, leaf) {
		if der.Key, err = x509.MarshalPKCS8PrivateKey(signer.Signer); err != nil {
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
		if len(notes) == 0 {
			ends.remember(p.Chain, certs, after.pem)
		}
	}
	if len(p.Key) > 0 && !bytes.Equal(p.Chain, p.Key) && bytes.Contains(p.Chain, []byte("PRIVATE KEY-----")) {
		notes = append(notes, "a private key stands in the file of the chain, too: it is not used")
	}
	for _, note := range keyNotes {
		if !slices.Contains(notes, note) { // both may stand in one file
			notes = append(notes, note)
		}
	}
	sent := PEM{
		Chain: slices.Concat(appendChain(nil, der.Chain[:1]), after.pem),
		Key:   appendPEM(nil, typeKey, der.Key),
	}
	return Certificate{
		PEM:       sent,
		Names:     namesOf(leaf),
		Issuer:    leaf.Issuer.String(),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
		Notes:     notes,
	}, der, nil
}

// inTime refuses a chain that is not valid at now, unless now is zero.
func inTime(certs []*x509.Certificate, now time.Time) error {
	if why := outsideValidity(certs, now); why != "" && !now.IsZero() {
		return fmt.Errorf("%w: %s", ErrBadCertificate, why)
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
	certs, _, err := parseChain(chain)
	if err != nil {
		return bad("chain: %v", err)
	}
	if certs, _, err = arrange(certs, leafWithoutKey(certs), now); err != nil {
		return err
	}
	if err := inTime(certs, now); err != nil {
		return err
	}
	if err := (candidate{chain: certs}).obey(); err != nil {
		return err
	}
	if err := (Certificate{Names: namesOf(certs[0])}).CheckName(n); err != nil {
		return err
	}
	return checkKind(n, certs[0].PublicKeyAlgorithm)
}

// namesOf returns the names under which a certificate can be served. An address that stands there
// as a DNS name is none, since clients do not take it.
func namesOf(leaf *x509.Certificate) []string {
	names := slices.DeleteFunc(slices.Clone(leaf.DNSNames), func(n string) bool {
		_, err := netip.ParseAddr(n)
		return err == nil
	})
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, string(AddressName(a)))
		}
	}
	return names
}

// WarningsAt returns Warnings, and what is only so for the moment.
func (c Certificate) WarningsAt(now time.Time) []string {
	why := NotYet(c.NotBefore, now)
	if why == "" {
		return c.Warnings
	}
	return append(slices.Clone(c.Warnings), why)
}

// NotYet warns of a certificate that is valid only from notBefore on. It is empty if that is past.
func NotYet(notBefore, now time.Time) string {
	if !now.Before(notBefore) {
		return ""
	}
	return "it is not valid before " + notBefore.UTC().Format(time.RFC3339) + " by this clock: clients whose clocks " +
		"say the same refuse it until then"
}

// CheckName refuses a certificate under a name that it does not cover. Under the name of a second
// certificate it refuses one that is not RSA. The error wraps [ErrBadCertificate].
func (c Certificate) CheckName(n Name) error {
	if !c.Covers(n) {
		host := n.Host()
		advice := "put it under one of its names"
		if wild := "*." + string(host); slices.Contains(c.Names, wild) {
			advice = fmt.Sprintf("put it under %s (its folder is _.%s)", wild, host)
		} else if _, address := host.Address(); address {
			advice = "have it issued with the address as an IP address, not as a DNS name, or " + advice
		}
		return fmt.Errorf("%w: it is for %.200q, not for %s: clients would refuse it there: %s", ErrBadCertificate,
			c.Names, host, advice)
	}
	if n.IsSecond() && len(c.Chain) > 0 {
		return checkKind(n, c.Kind())
	}
	return nil
}

// Covers reports whether the certificate is valid for the host of n, as a client would check it.
func (c Certificate) Covers(n Name) bool {
	n = n.Host()
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
