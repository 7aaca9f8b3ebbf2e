// Package identity says who a node is, as its transport proved it, and what a node of that identity may have.
//
// An identity is a string of names, one space between them; the first is the one that people are shown, and a rule that matches any of
// them counts. It is never what the node says of itself. Its forms:
//
//	spiffe://fleet.example/edge/1       the SPIFFE ID of the client certificate, which then has no other name
//	edge-1.example edge-1.local         else the DNS names of the client certificate
//	unix:uid=1000                       the user at the other end of a unix socket, as the kernel knows it
//	unix:unmapped                       a user there whom the kernel cannot name: one of another user namespace, or nobody (65534)
//	                                    (empty) nobody is known: plaintext, or a certificate without such names
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

// FromCertificate is the identity that a verified client certificate gives. A certificate with a SPIFFE ID has that alone: who may register an ID
// may not always choose the DNS names beside it. One with a malformed ID, or with a second URI beside it, is nobody's (X509-SVID §2: such
// a certificate must be refused). Else all DNS names count, in lower case; the common name never does, since CAs check it less.
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
