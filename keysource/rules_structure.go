package keysource

import (
	"bytes"
	"crypto/x509"
	"fmt"
)

// structure refuses DER that Go reads and BoringSSL does not (crypto/x509/x_x509.cc, X509_parse_with_algorithms).
func structure(c candidate) string {
	for i, cert := range c.chain {
		if what := oddity(cert); what != "" {
			return fmt.Sprintf("certificate %d of the chain %s: Envoy cannot read it; have it issued anew", i, what)
		}
	}
	return ""
}

// The tags of the optional fields of a TBSCertificate (RFC 5280, section 4.1).
const (
	tagIssuerID   = 0x81
	tagSubjectID  = 0x82
	tagExtensions = 0xa3
	tagUTCTime    = 0x17
)

// oddity says what in the DER of a certificate BoringSSL does not read.
func oddity(c *x509.Certificate) string {
	at := bytes.Index(c.RawTBSCertificate, c.RawSubjectPublicKeyInfo)
	if at < 0 {
		return "has its public key nowhere"
	}
	rest := c.RawTBSCertificate[at+len(c.RawSubjectPublicKeyInfo):]
	if c.Version >= 2 {
		rest = skip(rest, tagIssuerID)
		rest = skip(rest, tagSubjectID)
	}
	if c.Version >= 3 {
		rest = skip(rest, tagExtensions)
	}
	if len(rest) > 0 {
		return fmt.Sprintf("has fields that version %d does not have", c.Version)
	}
	return ""
}

// skip leaves out one element of DER if it has that tag.
func skip(b []byte, tag byte) []byte {
	if len(b) < 2 || b[0] != tag {
		return b
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		head += n - 0x80
		if n == 0x80 || n > 0x84 || len(b) < head {
			return b
		}
		n = 0
		for _, x := range b[2:head] {
			n = n<<8 | int(x)
		}
	}
	if len(b)-head < n {
		return b
	}
	return b[head+n:]
}
