package keysource

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/bits"
)

// structure refuses DER that Go reads and BoringSSL does not (crypto/x509/x_x509.cc,
// X509_parse_with_algorithms).
func structure(c candidate) string {
	for i, cert := range c.chain {
		if what := oddity(cert); what != "" {
			return fmt.Sprintf("certificate %d of the chain %s: Envoy cannot read it; have it issued anew", i, what)
		}
	}
	return ""
}

// The tags of a TBSCertificate's elements (RFC 5280, section 4.1).
const (
	tagVersion    = 0xa0
	tagIssuerID   = 0x81
	tagSubjectID  = 0x82
	tagExtensions = 0xa3
	tagUTCTime    = 0x17
)

// oddity says what of a certificate BoringSSL does not read. Go has read it, so that lengths are
// right.
func oddity(c *x509.Certificate) string {
	_, rest, _ := element(c.RawTBSCertificate)
	if rest[0] == tagVersion {
		_, _, rest = element(rest)
	}
	_, _, rest = element(rest) // serial number
	_, _, rest = element(rest) // signature algorithm
	_, issuer, rest := element(rest)
	_, validity, rest := element(rest)
	_, subject, rest := element(rest)
	_, _, rest = element(rest) // public key
	if hasEmptySet(issuer) || hasEmptySet(subject) {
		return "has an empty set in a name"
	}
	if oddTime(validity) {
		return "has a validity without seconds, or with a time zone"
	}
	for _, tag := range []byte{tagIssuerID, tagSubjectID} {
		if c.Version >= 2 && len(rest) > 0 && rest[0] == tag {
			var id []byte
			if _, id, rest = element(rest); oddBits(id) {
				return "has a broken unique identifier"
			}
		}
	}
	if c.Version >= 3 && len(rest) > 0 && rest[0] == tagExtensions {
		_, _, rest = element(rest)
	}
	if len(rest) > 0 {
		return fmt.Sprintf("has fields that version %d does not have", c.Version)
	}
	return ""
}

// hasEmptySet reports whether a Name has a RelativeDistinguishedName without an attribute.
func hasEmptySet(name []byte) bool {
	for len(name) > 0 {
		var set []byte
		if _, set, name = element(name); len(set) == 0 {
			return true
		}
	}
	return false
}

// oddTime reports whether a time of a Validity has no seconds, or is a GeneralizedTime with a
// zone.
func oddTime(validity []byte) bool {
	const seconds, general = len("YYMMDDhhmmssZ"), len("YYYYMMDDhhmmssZ")
	for len(validity) > 0 {
		var tag byte
		var at []byte
		switch tag, at, validity = element(validity); {
		case tag == tagUTCTime && len(at) != seconds && len(at) != seconds+len("0000"):
			return true
		case tag != tagUTCTime && len(at) != general:
			return true
		}
	}
	return false
}

// oddBits reports whether b is not the content of a BIT STRING in DER (X.690, sections 8.6 and
// 11.2).
func oddBits(b []byte) bool {
	if len(b) == 0 || b[0] > 7 || len(b) == 1 && b[0] > 0 {
		return true
	}
	return b[0] > 0 && bits.TrailingZeros8(b[len(b)-1]) < int(b[0])
}

// element splits DER into the first element's tag and content, and the rest. Broken DER has
// neither content nor rest.
func element(der []byte) (tag byte, content, rest []byte) {
	if len(der) < 2 {
		return 0, nil, nil
	}
	n, head := int(der[1]), 2
	if n >= 0x80 {
		head += n - 0x80
		if head > 6 || len(der) < head {
			return 0, nil, nil
		}
		n = 0
		for _, b := range der[2:head] {
			n = n<<8 | int(b)
		}
	}
	if n > len(der)-head {
		return 0, nil, nil
	}
	return der[0], der[head : head+n], der[head+n:]
}

// otherName reports whether the content of an otherName is an OID and an explicit value (RFC 5280,
// section 4.2.1.6).
func otherName(content []byte) bool {
	tag, id, rest := element(content)
	if tag != asn1.TagOID || len(id) == 0 {
		return false
	}
	tag, value, rest := element(rest)
	return tag == 0xa0 && len(value) > 0 && len(rest) == 0
}
