package keysource

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// minRSA and maxRSA bound the size of RSA keys. Envoy takes none below, BoringSSL none above
// (crypto/rsa, rsa_check_public_key).
const (
	minRSA = 2048
	maxRSA = 8192
)

// rsaSize refuses RSA keys that are too small or too large.
func rsaSize(c candidate) string {
	k, ok := c.leaf().PublicKey.(*rsa.PublicKey)
	if !ok {
		return ""
	}
	switch bits := k.N.BitLen(); {
	case bits < minRSA:
		return fmt.Sprintf("RSA of %d bits, Envoy wants %d or more: have it issued for a larger key", bits, minRSA)
	case bits > maxRSA:
		return fmt.Sprintf("RSA of %d bits, Envoy takes %d at most: have it issued for a smaller key", bits, maxRSA)
	}
	return ""
}

// largeIssuers notes issuers whose RSA keys clients written in Go refuse. Envoy does not look at
// them.
func largeIssuers(chain []*x509.Certificate) (notes []string) {
	for i, c := range chain[1:] {
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSA {
			notes = append(notes, fmt.Sprintf("certificate %d of the chain has an RSA key of %d bits: clients written "+
				"in Go refuse more than %d; have it issued by a CA with a smaller key", i+1, k.N.BitLen(), maxRSA))
		}
	}
	return notes
}

// rsaPrimes refuses keys of more than two primes. Such a PKCS#1 key has version 1 (RFC 8017,
// appendix A.1.2).
func rsaPrimes(c candidate) string {
	if c.leaf().PublicKeyAlgorithm != x509.RSA || c.key == nil {
		return ""
	}
	var outer struct {
		Version   int
		Algorithm asn1.RawValue
		Key       []byte
	}
	var inner asn1.RawValue
	var version int
	if _, err := asn1.Unmarshal(c.key, &outer); err != nil {
		return "the private key is not PKCS#8: put the certificate again"
	}
	if _, err := asn1.Unmarshal(outer.Key, &inner); err != nil {
		return "the private key is not PKCS#1 within PKCS#8: put the certificate again"
	}
	if _, err := asn1.Unmarshal(inner.Bytes, &version); err != nil || version != 0 {
		return "the RSA key has more than two primes, which Envoy refuses: have it issued for a usual key"
	}
	return ""
}

// curve refuses ECDSA on P-224.
func curve(c candidate) string {
	k, ok := c.leaf().PublicKey.(*ecdsa.PublicKey)
	if ok && k.Curve == elliptic.P224() {
		return "ECDSA on P-224, Envoy wants P-256, P-384 or P-521: have it issued for such a key"
	}
	return ""
}
