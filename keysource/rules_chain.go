package keysource

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"
)

// selfIssued reports whether issuer and subject of c are the same.
func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// isExt returns a test for the extension id.
func isExt(id asn1.ObjectIdentifier) func(pkix.Extension) bool {
	return func(e pkix.Extension) bool { return e.Id.Equal(id) }
}

// extKeyUsage refuses what is not for servers. An issuer's list restricts what is below it, too.
func extKeyUsage(c candidate) string {
	for i, cert := range c.chain {
		if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 {
			continue
		}
		if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) &&
			!slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return fmt.Sprintf("the extendedKeyUsage of certificate %d lacks serverAuth: clients refuse it; have "+
				"it issued for servers", i)
		}
	}
	return ""
}

// criticalExtension refuses critical extensions that clients do not know and must not pass over
// (RFC 5280, section 4.2).
func criticalExtension(c candidate) string {
	for i, cert := range c.chain {
		if len(cert.UnhandledCriticalExtensions) > 0 {
			return fmt.Sprintf("certificate %d has the critical extension %s, which clients refuse: have it "+
				"issued without it", i, cert.UnhandledCriticalExtensions[0])
		}
	}
	return ""
}

// needed returns how many certificates of the chain every client has to use. The last one of three
// or more may be a cross-certificate, of a CA that clients know by another certificate.
func needed(chain []*x509.Certificate) int {
	if n := len(chain); n <= 2 {
		return n
	}
	return len(chain) - 1
}

// weakSignature refuses signatures with MD5 and SHA-1. Nobody looks at the signature of a root.
func weakSignature(c candidate) string {
	for i, cert := range c.chain[:needed(c.chain)] {
		switch cert.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			if !selfIssued(cert) {
				return fmt.Sprintf("certificate %d is signed with %s, which clients refuse: have it issued with "+
					"SHA-256", i, cert.SignatureAlgorithm)
			}
		}
	}
	return ""
}

// clockSlack is how far a clock may be behind that of a CA.
const clockSlack = 5 * time.Minute

// outsideValidity says which certificate of a chain clients refuse at now, and why.
func outsideValidity(chain []*x509.Certificate, now time.Time) string {
	for i, cert := range chain[:needed(chain)] {
		which := ""
		if i > 0 {
			if selfIssued(cert) {
				break
			}
			which = fmt.Sprintf("certificate %d of the chain, an issuer, ", i)
		}
		if now.After(cert.NotAfter) {
			return which + "expired at " + cert.NotAfter.UTC().Format(time.RFC3339)
		}
		if now.Add(clockSlack).Before(cert.NotBefore) {
			return which + "is not valid before " + cert.NotBefore.UTC().Format(time.RFC3339) + ": put it then"
		}
	}
	return ""
}

// issuerName refuses a chain in which a name does not lead to the next certificate. Names are
// equal if only their encoding differs, or upper and lower case (RFC 5280, section 7.1).
func issuerName(c candidate) string {
	for i, above := range c.chain[1:] {
		cert := c.chain[i]
		if !bytes.Equal(cert.RawIssuer, above.RawSubject) &&
			!strings.EqualFold(cert.Issuer.String(), above.Subject.String()) {
			return fmt.Sprintf("certificate %d of the chain is issued by %.100q, and the next is of %.100q: put "+
				"the right one there", i, cert.Issuer, above.Subject)
		}
	}
	return ""
}

// authority refuses issuers without basicConstraints that say CA:TRUE. A root of version 1 has
// none.
func authority(c candidate) string {
	for i, cert := range c.chain[1:] {
		if (!cert.BasicConstraintsValid || !cert.IsCA) && !selfIssued(cert) {
			return fmt.Sprintf("certificate %d of the chain is no CA (basicConstraints): clients refuse it; take "+
				"the issuer's own certificate", i+1)
		}
	}
	return ""
}

// pathLength counts the CAs between an issuer and the leaf. Those that issued themselves do not
// count (RFC 5280, section 4.2.1.9).
func pathLength(c candidate) string {
	below := 0
	for i, cert := range c.chain[1:] {
		if limited := cert.MaxPathLen > 0 || cert.MaxPathLenZero; limited && below > cert.MaxPathLen {
			return fmt.Sprintf("certificate %d of the chain allows %d CAs below it and has %d: clients refuse "+
				"it; have it issued by another CA", i+1, cert.MaxPathLen, below)
		}
		if !selfIssued(cert) {
			below++
		}
	}
	return ""
}

const (
	// maxChain is how many bytes of certificates OpenSSL's and BoringSSL's clients take
	// (SSL_MAX_CERT_LIST_DEFAULT). Go's clients take 256 KiB.
	maxChain = 100 << 10
	// maxCerts is how many certificates OpenSSL's and Go's clients check (X509_verify_cert,
	// maxChainSignatureChecks).
	maxCerts = 100
)

// chainSize refuses chains that are longer than clients take.
func chainSize(c candidate) string {
	if len(c.chain) > maxCerts {
		return fmt.Sprintf("the chain has %d certificates, clients take %d at most: leave out those that nobody needs",
			len(c.chain), maxCerts)
	}
	size := 0
	for _, cert := range c.chain {
		size += 3 + len(cert.Raw) // a length stands before each (RFC 5246, section 7.4.2)
	}
	if size > maxChain {
		return fmt.Sprintf("the chain has %d bytes, most clients take %d at most: have it issued with fewer names",
			size, maxChain)
	}
	return ""
}
