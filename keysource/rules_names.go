package keysource

import (
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
)

// nameConstraints refuses a leaf of which an issuer in the chain excludes a name (RFC 5280,
// section 4.2.1.10).
func nameConstraints(c candidate) string {
	for i, ca := range c.chain[1:] {
		if name := forbidden(ca, c.leaf()); name != "" {
			return fmt.Sprintf("certificate %d of the chain may not issue for %.100q (nameConstraints): clients "+
				"refuse it; have it issued by another CA", i+1, name)
		}
	}
	return ""
}

// forbidden returns a name of leaf for which ca may not issue.
func forbidden(ca, leaf *x509.Certificate) string {
	for _, n := range leaf.DNSNames {
		if !allowed(n, ca.PermittedDNSDomains, ca.ExcludedDNSDomains, dnsWithin) {
			return n
		}
	}
	for _, ip := range leaf.IPAddresses {
		if !allowed(ip, ca.PermittedIPRanges, ca.ExcludedIPRanges, ipWithin) {
			return ip.String()
		}
	}
	for _, mail := range leaf.EmailAddresses {
		if !allowed(mail, ca.PermittedEmailAddresses, ca.ExcludedEmailAddresses, mailWithin) {
			return mail
		}
	}
	for _, uri := range leaf.URIs {
		if !allowed(uri.Hostname(), ca.PermittedURIDomains, ca.ExcludedURIDomains, hostWithin) {
			return uri.String()
		}
	}
	return ""
}

// allowed reports whether name is in nothing that is excluded. It must be in something that is
// permitted if anything is listed there.
func allowed[N, C any](name N, permitted, excluded []C, within func(N, C) bool) bool {
	in := func(c C) bool { return within(name, c) }
	return !slices.ContainsFunc(excluded, in) && (len(permitted) == 0 || slices.ContainsFunc(permitted, in))
}

// dnsWithin reports whether name is domain or below it. A domain that begins with a dot has only
// what is below it.
func dnsWithin(name, domain string) bool {
	below := strings.TrimPrefix(strings.ToLower(domain), ".")
	name = strings.ToLower(name)
	return domain == "" || name == strings.ToLower(domain) || strings.HasSuffix(name, "."+below)
}

func ipWithin(ip net.IP, in *net.IPNet) bool { return len(in.IP) == len(ip) && in.Contains(ip) }

// mailWithin reports whether mail is the address that a constraint names, or at the host, or in
// the domain (which begins with a dot).
func mailWithin(mail, constraint string) bool {
	if strings.Contains(constraint, "@") {
		return strings.EqualFold(mail, constraint)
	}
	return hostWithin(mail[strings.LastIndexByte(mail, '@')+1:], constraint)
}

// hostWithin reports whether host is the one that a constraint names, or in the domain that it
// names with a dot in front.
func hostWithin(host, constraint string) bool {
	host, constraint = strings.ToLower(host), strings.ToLower(constraint)
	return host == constraint || strings.HasPrefix(constraint, ".") && strings.HasSuffix(host, constraint)
}
