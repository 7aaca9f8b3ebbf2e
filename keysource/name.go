package keysource

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName   = 253 // RFC 1035 §2.3.4, without the trailing dot
	maxLabel  = 63  // RFC 1035 §2.3.4
	maxLabels = 16  // deeper names are made up by scanners; the bound keeps wildcard look-ups short
)

// profile is UTS #46 as browsers apply it to a host: non-transitional, with the length checked,
// and with "--" anywhere, as in real names such as "r3---sn-a.example". It has the STD3 rules. So
// a name that a user writes and the SNI that a client sends are normalised alike.
var profile = idna.New(idna.MapForLookup(), idna.CheckHyphens(false), idna.VerifyDNSLength(true), idna.BidiRule())

// ServerName normalises a server name: lower case, no trailing dot, IDNA as ASCII, at most 253
// bytes and 16 labels. No other code may do this. A leading "*." label is kept (the name of a
// wildcard certificate). The result has only a-z, 0-9, "-", "_", "." and that "*", and normalises
// to itself. The error wraps [ErrBadName].
//
// Single labels ("localhost") are allowed. So are underscores, which wildcards cover. A name with a
// slash, such as that of a ring, is never a server name.
//
// An IP address is one, too. Clients send none as a server name (RFC 6066, section 3), but they ask
// for a certificate of the address to which they connect. IPv6 is written as in RFC 5952, without
// brackets, which may stand in s.
func ServerName(s string) (Name, error) {
	if plain(s) {
		return Name(s), nil
	}
	return normal(s)
}

// normal does what ServerName does, for all names.
func normal(s string) (Name, error) {
	if len(s) > maxName+1 { // before any work is done for it: clients choose the SNI
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrBadName, len(s), maxName)
	}
	if !utf8.ValidString(s) { // package idna would encode the replacement character
		return "", fmt.Errorf("%w: %q is not UTF-8", ErrBadName, s)
	}
	if a, err := netip.ParseAddr(unbracketed(s)); err == nil {
		if a.Zone() != "" {
			return "", fmt.Errorf("%w: %q has a zone, which is no part of a certificate: leave out %%%s", ErrBadName,
				s, a.Zone())
		}
		return AddressName(a), nil
	}
	host, wild := strings.CutPrefix(s, "*.")
	if why := badLabel(host); why != "" {
		return "", fmt.Errorf("%w: %q has %s", ErrBadName, s, why)
	}
	ascii, err := toASCII(host)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %v", ErrBadName, s, err)
	}
	ascii = strings.TrimSuffix(ascii, ".") // after the mapping, since IDNA has other dots
	if ascii == "" || strings.HasSuffix(ascii, ".") {
		return "", fmt.Errorf("%w: %q has an empty label", ErrBadName, s)
	}
	if a, err := netip.ParseAddr(ascii); err == nil && !wild { // a dot behind it, or wide digits
		return AddressName(a), nil
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

// unbracketed returns what stands in the brackets of an IPv6 address, or s itself.
func unbracketed(s string) string {
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.Contains(s, ":") && strings.HasSuffix(inner, "]") {
		return inner[:len(inner)-1]
	}
	return s
}

// badLabel says in words what IDNA says with a number.
func badLabel(host string) string {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, l := range labels {
		switch {
		case l == "":
			return "an empty label"
		case len(l) > maxLabel && isASCII(l):
			return fmt.Sprintf("a label of %d bytes, at most %d", len(l), maxLabel)
		}
	}
	return ""
}

// toASCII maps a host, and lets underscores pass in labels that are ASCII. IDNA and the rules of
// host names forbid them. A digit stands for them meanwhile, since with it no label becomes
// Punycode. Punycode has no underscores.
func toASCII(host string) (string, error) {
	if !strings.Contains(host, "_") {
		return profile.ToASCII(host)
	}
	labels := strings.Split(host, ".")
	var kept []int // the labels with underscores
	for i, l := range labels {
		if strings.Contains(l, "_") && isASCII(l) && !strings.HasPrefix(strings.ToLower(l), "xn--") {
			labels[i], kept = strings.ReplaceAll(l, "_", "0"), append(kept, i)
		}
	}
	was := strings.Split(host, ".")
	ascii, err := profile.ToASCII(strings.Join(labels, "."))
	if err != nil {
		return "", err
	}
	mapped := strings.Split(ascii, ".")
	if len(mapped) != len(was) {
		return "", errors.New("an underscore stands beside dots other than a full stop")
	}
	for _, i := range kept {
		mapped[i] = strings.ToLower(was[i])
	}
	return strings.Join(mapped, "."), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// AddressName returns the name of an IP address. An IPv4 address that is written as IPv6 is the
// IPv4 address.
func AddressName(a netip.Addr) Name { return Name(a.Unmap().WithZone("").String()) }

// Address returns the IP address that n is. ok is false if it is none.
func (n Name) Address() (a netip.Addr, ok bool) {
	if n == "" || !strings.Contains(string(n), ":") && (n[len(n)-1] < '0' || n[len(n)-1] > '9') {
		return a, false
	}
	a, err := netip.ParseAddr(string(n))
	return a, err == nil
}

// plain reports whether s is certainly its own normal form, as most names are. Then it has labels
// of a-z, 0-9, "-" and "_" that are no Punycode. The last label begins with a letter, so s is no IP
// address. Other names may be their own normal form, too.
func plain(s string) bool {
	if len(s) == 0 || len(s) > maxName {
		return false
	}
	labels, at := 1, 0 // at is where the label begins
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if i == at || i-at > maxLabel {
				return false
			}
			labels, at = labels+1, i+1
		case c == '-':
			if i-at == 3 && s[i-1] == '-' { // "xn--", and other prefixes that may get a meaning
				return false
			}
		case c == '_':
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			return false
		}
	}
	return labels <= maxLabels && at < len(s) && len(s)-at <= maxLabel && s[at] >= 'a'
}

// Wildcard returns the wildcard name that covers n ("*.example.com" for "shop.example.com", RFC
// 9525 §6.3: one label). It returns "" if there is none, as for an IP address. That of a second
// certificate is a second one, too.
func (n Name) Wildcard() Name {
	_, parent, ok := strings.Cut(string(n), ".")
	if !ok || !strings.Contains(parent, ".") || strings.HasPrefix(string(n), "*.") {
		return ""
	}
	if _, address := n.Host().Address(); address {
		return ""
	}
	return Name("*." + parent)
}

// Neither prefix can be part of a server name.
const (
	chainPrefix = "chain:"
	// istioPrefix is what Istio demands of a credentialName that an external SDS server answers.
	// Istio sends it along (istio/istio, pilot/pkg/security/model/authentication.go,
	// ConstructSdsSecretConfigForCredential).
	istioPrefix = "sds://"
)

// ChainName returns the resource name under which a filter chain of n's own asks for the
// certificate of n. Such chains are in a listener whose chains come and go. It is not n itself. On
// ADS another chain may watch the same name, or may have watched it until it has drained. Then
// Envoy gives nothing to a chain that fetches certificates on demand.
func ChainName(n Name) string { return chainPrefix + string(n) }

// CertificateName returns the name whose certificate a resource name asks for. The resource name
// is a name as [CertName] takes it, or a [ChainName]. It may also be sds:// and such a name, as
// Istio's gateways ask. The error wraps [ErrBadName].
func CertificateName(resource string) (Name, error) {
	for _, prefix := range []string{chainPrefix, istioPrefix} {
		if name, ok := strings.CutPrefix(resource, prefix); ok {
			return CertName(name)
		}
	}
	return CertName(resource)
}
