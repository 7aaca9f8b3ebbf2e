package keysource

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"slices"
)

// DER has the parts of a [Certificate] as DER, a quarter smaller than PEM. It is the form for
// keeping many. [ParseDER] makes values, and nobody changes them.
type DER struct {
	Chain [][]byte // leaf first
	Key   []byte   // PKCS#8
}

// PEM returns the PEM of the [Certificate].
func (d DER) PEM() PEM {
	return PEM{Chain: appendChain(nil, d.Chain), Key: appendPEM(nil, typeKey, d.Key)}
}

const (
	typeCert = "CERTIFICATE"
	typeKey  = "PRIVATE KEY"
)

// appendChain appends the PEM of chain.
func appendChain(b []byte, chain [][]byte) []byte {
	size := 0
	for _, der := range chain {
		size += sizePEM(typeCert, der)
	}
	b = slices.Grow(b, size)
	for _, der := range chain {
		b = appendPEM(b, typeCert, der)
	}
	return b
}

// linePEM is how many bytes a line of PEM encodes (RFC 7468, section 2: 64 characters).
const linePEM = 48

// appendPEM appends what [pem.EncodeToMemory] writes of a block without headers. It allocates at
// most once, since a million blocks are written in a row.
func appendPEM(b []byte, label string, der []byte) []byte {
	b = slices.Grow(b, sizePEM(label, der))
	b = append(append(append(b, "-----BEGIN "...), label...), "-----\n"...)
	for line := range slices.Chunk(der, linePEM) {
		b = append(base64.StdEncoding.AppendEncode(b, line), '\n')
	}
	return append(append(append(b, "-----END "...), label...), "-----\n"...)
}

func sizePEM(label string, der []byte) int {
	return len("-----BEGIN -----\n-----END "+
		"-----\n") + 2*len(label) + base64.StdEncoding.EncodedLen(len(der)) + (len(der)+linePEM-1)/linePEM
}

// These are the fixed parts of the PKCS#8 that [x509.MarshalPKCS8PrivateKey] writes of a key on
// P-256 (RFC 5958, RFC 5915). It consists of p256Head, the key (32 bytes), p256Middle and the
// point (65 bytes). The SubjectPublicKeyInfo of a certificate ends with that point, after
// p256Public (RFC 5480).
var (
	p256Head   = unhex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420")
	p256Middle = unhex("a144034200")
	p256Public = unhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
)

// plainP256 reports whether the PKCS#8 of leaf's key, which has been parsed, is byte for byte what
// would be written of it anew. If it returns false, it may still be.
func plainP256(pkcs8 []byte, leaf *x509.Certificate) bool {
	rest, ok := bytes.CutPrefix(pkcs8, p256Head)
	point, isP256 := bytes.CutPrefix(leaf.RawSubjectPublicKeyInfo, p256Public)
	if !ok || !isP256 || len(point) != 65 || len(rest) != 32+len(p256Middle)+len(point) {
		return false
	}
	return bytes.HasPrefix(rest[32:], p256Middle) && bytes.Equal(rest[32+len(p256Middle):], point)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
