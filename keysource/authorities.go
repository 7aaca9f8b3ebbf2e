package keysource

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// Authorities are the CAs that a listener verifies client certificates with, each once, in DER.
// They are ordered by their bytes, so that two files with the same CAs give the same Authorities.
type Authorities [][]byte

// ParseAuthorities reads a PEM bundle of CA certificates. Text around the blocks, a CA that stands
// there twice, and the order mean nothing. It refuses a block that is no certificate, and a file
// that is broken or cut short: a CA would be lost, and its clients with it.
func ParseAuthorities(text []byte) (all Authorities, err error) {
	found, _, err := blocks(text)
	if err != nil {
		return nil, err
	}
	for _, block := range found {
		if block.Type != "CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s, and CA certificates only can stand there", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("certificate %d of it cannot be read: %w", len(all)+1, err)
		}
		all = append(all, block.Bytes)
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate (PEM)")
	}
	slices.SortFunc(all, bytes.Compare)
	return slices.CompactFunc(all, bytes.Equal), nil
}

// AsIs reports whether a is one CA, which Envoy finds in text as it stands. Envoy reads no UTF-16,
// and no block behind a byte order mark or blanks.
func (a Authorities) AsIs(text []byte) bool {
	block, _ := pem.Decode(text)
	return len(a) == 1 && block != nil && bytes.Equal(block.Bytes, a[0])
}

// PEM returns the CAs as a bundle.
func (a Authorities) PEM() (out []byte) {
	for _, der := range a {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// Undeclared returns the SHA-256 of the first CA that is not among the declared ones, or "". Those
// are SHA-256 fingerprints of 64 hex digits in lower case, with commas between them.
func (a Authorities) Undeclared(declared string) string {
	known := strings.Split(declared, ",")
	for _, der := range a {
		sum := sha256.Sum256(der)
		if f := hex.EncodeToString(sum[:]); !slices.Contains(known, f) {
			return f
		}
	}
	return ""
}

// Mark returns a server name that binds the tickets of a host's filter chain to all of several CAs.
// It is "" for one CA. It stands beside the host among the server names of the chain, and no client
// sends it.
//
// Envoy binds a ticket to the first CA of trusted_ca alone. A client of another one could resume
// after that was removed, and nobody would look at its certificate again. Envoy also binds a ticket
// to all server names of the chain.
//
// Source: updateDigestForSessionId in
// https://github.com/envoyproxy/envoy/blob/v1.40.0/source/common/tls/cert_validator/default_validator.cc
func (a Authorities) Mark(host string) string {
	if len(a) < 2 {
		return ""
	}
	h := sha256.New()
	write(h, []byte(host))
	for _, der := range a {
		write(h, der)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]) + ".client-cas.invalid"
}

// write hashes a part so that it cannot run into the next one.
func write(h hash.Hash, part []byte) {
	sum := sha256.Sum256(part)
	h.Write(sum[:])
}
