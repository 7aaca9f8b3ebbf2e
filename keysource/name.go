package keysource

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName   = 253 // RFC 1035 §2.3.4, without the trailing dot
	maxLabels = 16  // deeper names are made up by scanners; the bound keeps wildcard look-ups short
)

// profile is UTS #46 as browsers apply it to a host (non-transitional, length checked, "--" anywhere, as in real names such as
// "r3---sn-a.example"), with the STD3 rules, so that a name that a user writes and the SNI that a client sends come out alike.
var profile = idna.New(idna.MapForLookup(), idna.CheckHyphens(false), idna.VerifyDNSLength(true), idna.BidiRule())

// ServerName is the one place that normalises a server name: lower case, no trailing dot, IDNA to ASCII, at most 253 bytes and
// 16 labels. A leading "*." label is kept (a wildcard certificate's name). What comes out holds only a-z, 0-9, "-", "." and that
// "*", and normalises to itself. The error wraps [ErrBadName].
//
// Single labels ("localhost") are allowed. Underscores are not (no public CA signs them), nor are IP addresses (RFC 6066 §3). A
// name with a slash, such as a ticket secret's, is never a server name.
func ServerName(s string) (Name, error) {
	if len(s) > maxName+1 { // before any work is spent on it: clients choose SNI
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrBadName, len(s), maxName)
	}
	if !utf8.ValidString(s) { // package idna would encode the replacement character
		return "", fmt.Errorf("%w: %q is not UTF-8", ErrBadName, s)
	}
	host, wild := strings.CutPrefix(s, "*.")
	ascii, err := profile.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %v", ErrBadName, s, err)
	}
	ascii = strings.TrimSuffix(ascii, ".") // after the mapping: IDNA has other dots
	if ascii == "" || strings.HasSuffix(ascii, ".") {
		return "", fmt.Errorf("%w: %q has an empty label", ErrBadName, s)
	}
	if _, err := netip.ParseAddr(ascii); err == nil && !wild {
		return "", fmt.Errorf("%w: %q is an IP address", ErrBadName, s)
	}
	if strings.Count(ascii, ".")+1 > maxLabels {
		return "", fmt.Errorf("%w: %q has more than %d labels", ErrBadName, s, maxLabels)
	}
	if wild {
		ascii = "*." + ascii
	}
	if len(ascii) > maxName {
		return "", fmt.Errorf("%w: %q: longer than %d bytes", ErrBadName, s, maxName)
	}
	return Name(ascii), nil
}

// Wildcard returns the wildcard name that covers n ("*.example.com" for "shop.example.com", RFC 9525 §6.3: one label), or ""
// where there is none.
func (n Name) Wildcard() Name {
	_, parent, ok := strings.Cut(string(n), ".")
	if !ok || !strings.Contains(parent, ".") || strings.HasPrefix(string(n), "*.") {
		return ""
	}
	return Name("*." + parent)
}

// Neither can stand in a server name.
const (
	chainPrefix = "chain:"
	// istioPrefix is what Istio demands of a credentialName that an external SDS server is to answer, and sends along (istio/istio,
	// pilot/pkg/security/model/authentication.go, ConstructSdsSecretConfigForCredential).
	istioPrefix = "sds://"
)

// ChainName is the resource name under which a filter chain of n's own, in a listener that comes and goes, asks for the certificate of n. It is not n itself:
// on ADS Envoy gives a chain that fetches certificates on demand nothing under a name that another chain watches, or did until it has drained.
func ChainName(n Name) string { return chainPrefix + string(n) }

// CertificateName is the name whose certificate a resource name asks for: a server name as [ServerName] takes it, a [ChainName], or
// sds:// and a server name, which is how Istio's gateways ask. The error wraps [ErrBadName].
func CertificateName(resource string) (Name, error) {
	for _, prefix := range []string{chainPrefix, istioPrefix} {
		if name, ok := strings.CutPrefix(resource, prefix); ok {
			return ServerName(name)
		}
	}
	return ServerName(resource)
}
