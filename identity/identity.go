package identity

import (
	"crypto/x509"
	"net/url"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// maxNames bounds the DNS names of one certificate that count: an identity is kept for each stream.
const maxNames = 16

// FromCertificate is the identity that a verified client certificate gives. A certificate with a
// SPIFFE ID has that alone: who may register an ID may not always choose the DNS names beside it.
// One with a malformed ID, or with a second URI beside it, is nobody's (X509-SVID §2: such a
// certificate must be refused). Else all DNS names count, in lower case; the common name never
// does, since CAs check it less.
//
// Source: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md
func FromCertificate(c *x509.Certificate) string {
	if slices.ContainsFunc(c.URIs, func(u *url.URL) bool { return u.Scheme == "spiffe" }) {
		id, err := x509svid.IDFromCert(c)
		if err != nil {
			return ""
		}
		return id.String()
	}
	var names []string
	for _, d := range c.DNSNames {
		d = strings.ToLower(strings.TrimSuffix(d, "."))
		if isDNS(d) && !slices.Contains(names, d) && len(names) < maxNames {
			names = append(names, d)
		}
	}
	return strings.Join(names, " ")
}

// isDNS: nothing that could be taken for another kind of name, or for two.
func isDNS(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.*") == ""
}
