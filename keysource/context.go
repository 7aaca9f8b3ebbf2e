package keysource

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// Context is what Envoy binds a session ticket to, besides the key that made it. A node resumes a
// session only in a filter chain of the same context. A renewal with the same context keeps the
// tickets of the host. Any other renewal ends them, and clients make a full handshake.
//
// Source:
// https://github.com/envoyproxy/envoy/blob/v1.40.0/source/common/tls/server_context_impl.cc
// (generateHashForSessionContextId)
type Context struct {
	ServerName Name     // of the filter chain
	CommonName string   // the first one of the certificate's subject
	Names      []string // DNS names, IP addresses and URIs in the certificate's order, which counts
	Issuer     string
	// Key is the kind of the certificate's key, as the cipher suites of TLS 1.2 name it: RSA or
	// ECDSA. A session of TLS 1.2 resumes only with its own cipher suite. Those of TLS 1.3 name no
	// kind of key.
	Key string `json:",omitempty"`
	// Fingerprint tells contexts apart, in hexadecimal.
	Fingerprint string
}

// ResumptionContext returns the context of a filter chain that serves only n, with a certificate
// (PEM, leaf first). The error wraps [ErrBadCertificate].
//
// A chain that names two certificates has the contexts of both. Its tickets end when either
// changes, and when the second one comes or goes.
func ResumptionContext(chain []byte, n Name) (Context, error) {
	n = n.Host()
	certs, _, err := parseChain(chain)
	if err != nil {
		return Context{}, fmt.Errorf("%w: chain: %v", ErrBadCertificate, err)
	}
	leaf := certs[leafWithoutKey(certs)]
	c := Context{ServerName: n, Issuer: leaf.Issuer.String(), Key: keyKind(leaf)}
	h := sha256.New()
	if raw, text := boundCommonName(leaf); len(raw) > 0 {
		h.Write(raw)
		c.CommonName = text
	}
	for _, san := range altNames(leaf) {
		h.Write(san.Bytes)
		if san.Tag == sanIP {
			c.Names = append(c.Names, net.IP(san.Bytes).String())
		} else {
			c.Names = append(c.Names, string(san.Bytes))
		}
	}
	issuer := sha256.Sum256(leaf.RawIssuer)
	h.Write(issuer[:])
	io.WriteString(h, string(n))
	c.Fingerprint = hex.EncodeToString(h.Sum(nil)[:8])
	return c, nil
}

// Changes says in words what makes next another context. It returns nothing if tickets outlive the
// step.
func (c Context) Changes(next Context) (out []string) {
	if c.Key == "" || next.Key == "" { // an earlier version wrote it, and took no notice of URIs
		return c.visible(next, withoutURIs(c.Names), withoutURIs(next.Names))
	}
	if c.Fingerprint != next.Fingerprint {
		if out = c.visible(next, c.Names, next.Names); len(out) == 0 {
			out = append(out, "the issuer's name, or the common name, is encoded in another way")
		}
	}
	if c.Key != next.Key {
		out = append(out, fmt.Sprintf("another kind of key (%s, before %s): only sessions of TLS 1.3 can outlive that",
			next.Key, c.Key))
	}
	return out
}

// Ended returns the TLS versions whose tickets do not outlive the step from c to next.
func (c Context) Ended(next Context) []string {
	switch {
	case len(c.Changes(next)) == 0:
		return nil
	case c.Fingerprint == next.Fingerprint:
		return []string{"TLS 1.2"}
	}
	return []string{"TLS 1.2", "TLS 1.3"}
}

// visible compares what people can read. The names are those of c and next.
func (c Context) visible(next Context, had, has []string) (out []string) {
	if c.Issuer != next.Issuer {
		out = append(out, fmt.Sprintf("another issuer (%s, before %s)", next.Issuer, c.Issuer))
	}
	if !slices.Equal(had, has) {
		out = append(out, fmt.Sprintf("other names, or in another order (%s, before %s)", FirstFew(has), FirstFew(had)))
	}
	if c.CommonName != next.CommonName {
		out = append(out, fmt.Sprintf("another common name (%q, before %q)", next.CommonName, c.CommonName))
	}
	return out
}

func withoutURIs(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return strings.Contains(n, ":") && net.ParseIP(n) == nil
	})
}

// keyKind returns RSA or ECDSA. Ed25519 uses the cipher suites of ECDSA (RFC 8422, section 5.10).
func keyKind(leaf *x509.Certificate) string {
	if leaf.PublicKeyAlgorithm == x509.RSA {
		return "RSA"
	}
	return "ECDSA"
}

// FirstFew returns the first names, and how many more there are.
func FirstFew[N ~string](names []N) string {
	const most = 5
	var out []string
	for _, n := range names[:min(most, len(names))] {
		out = append(out, string(n))
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(out, " "), len(names)-most)
	}
	return strings.Join(out, " ")
}

// Tags of GeneralName, RFC 5280 §4.2.1.6.
const (
	sanDNS = 2
	sanURI = 6
	sanIP  = 7
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// boundCommonName returns the first common name of the subject, as it is encoded and as text.
// Package crypto/x509 gives the last one.
func boundCommonName(leaf *x509.Certificate) (raw []byte, text string) {
	var all []asn1.RawValue // sets of attributes
	if rest, err := asn1.Unmarshal(leaf.RawSubject, &all); err != nil || len(rest) > 0 {
		return nil, "" // cannot happen: crypto/x509 has parsed it
	}
	for _, set := range all {
		for rest := set.Bytes; len(rest) > 0; {
			var one struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			var err error
			if rest, err = asn1.Unmarshal(rest, &one); err != nil {
				return nil, ""
			}
			if one.Type.Equal(oidCommonName) {
				text, _ = firstCommonName(leaf)
				return one.Value.Bytes, text
			}
		}
	}
	return nil, ""
}

// altNames lists the DNS names, IP addresses and URIs in the order of the certificate.
func altNames(c *x509.Certificate) (out []asn1.RawValue) {
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var all asn1.RawValue
		if _, err := asn1.Unmarshal(ext.Value, &all); err != nil {
			return nil // cannot happen: crypto/x509 has parsed it
		}
		for rest := all.Bytes; len(rest) > 0; {
			var one asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &one); err != nil {
				return out
			}
			if one.Class == asn1.ClassContextSpecific &&
				(one.Tag == sanDNS || one.Tag == sanURI || one.Tag == sanIP) {
				out = append(out, one)
			}
		}
	}
	return out
}
