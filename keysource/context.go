package keysource

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"hash"
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
	CommonName string   // of the certificate's subject
	Names      []string // DNS names and IP addresses in the certificate's order, which counts
	Issuer     string
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
	c := Context{ServerName: n, CommonName: leaf.Subject.CommonName, Issuer: leaf.Issuer.String()}
	h := sha256.New()
	write(h, []byte(c.CommonName))
	for _, san := range altNames(leaf) {
		write(h, san.Bytes)
		if san.Tag == sanIP {
			c.Names = append(c.Names, net.IP(san.Bytes).String())
		} else {
			c.Names = append(c.Names, string(san.Bytes))
		}
	}
	write(h, leaf.RawIssuer)
	write(h, []byte(n))
	c.Fingerprint = hex.EncodeToString(h.Sum(nil)[:8])
	return c, nil
}

// Changes says in words what makes next another context. It returns nothing if tickets outlive the
// step.
func (c Context) Changes(next Context) (out []string) {
	if c.Fingerprint == next.Fingerprint {
		return nil
	}
	if c.Issuer != next.Issuer {
		out = append(out, fmt.Sprintf("another issuer (%s, before %s)", next.Issuer, c.Issuer))
	}
	if !slices.Equal(c.Names, next.Names) {
		out = append(out, fmt.Sprintf("other names, or in another order (%s, before %s)", FirstFew(next.Names),
			FirstFew(c.Names)))
	}
	if c.CommonName != next.CommonName {
		out = append(out, fmt.Sprintf("another common name (%q, before %q)", next.CommonName, c.CommonName))
	}
	if len(out) == 0 {
		out = append(out, "the issuer's name is encoded in another way")
	}
	return out
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

// write hashes a part so that it cannot run into the next one.
func write(h hash.Hash, part []byte) {
	sum := sha256.Sum256(part)
	h.Write(sum[:])
}

// Tags of GeneralName, RFC 5280 §4.2.1.6.
const (
	sanDNS = 2
	sanIP  = 7
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// altNames lists the DNS names and IP addresses in the order of the certificate.
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
			if one.Class == asn1.ClassContextSpecific && (one.Tag == sanDNS || one.Tag == sanIP) {
				out = append(out, one)
			}
		}
	}
	return out
}
