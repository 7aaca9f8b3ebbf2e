package keysource

import (
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
)

// nameConstraints refuses a leaf whose DNS names or IP addresses an issuer of the chain excludes (RFC 5280, section 4.2.1.10).
func nameConstraints(c candidate) string {
	for i, ca := range c.chain[1:] {
		for _, name := range c.leaf().DNSNames {
			if !dnsAllowed(ca, name) {
				return fmt.Sprintf("certificate %d of the chain may not issue for %.100q (nameConstraints): clients refuse it; have it issued by another CA", i+1, name)
			}
		}
		for _, ip := range c.leaf().IPAddresses {
			if !ipAllowed(ca, ip) {
				return fmt.Sprintf("certificate %d of the chain may not issue for %s (nameConstraints): clients refuse it; have it issued by another CA", i+1, ip)
			}
		}
	}
	return ""
}

func dnsAllowed(ca *x509.Certificate, name string) bool {
	within := func(domain string) bool { return dnsWithin(name, domain) }
	if slices.ContainsFunc(ca.ExcludedDNSDomains, within) {
		return false
	}
	return len(ca.PermittedDNSDomains) == 0 || slices.ContainsFunc(ca.PermittedDNSDomains, within)
}

// dnsWithin reports whether name is domain or below it. A domain that begins with a dot has only what is below it.
func dnsWithin(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(domain)
	below, dotted := strings.CutPrefix(domain, ".")
	return domain == "" || !dotted && name == domain || strings.HasSuffix(name, "."+below)
}

func ipAllowed(ca *x509.Certificate, ip net.IP) bool {
	within := func(n *net.IPNet) bool { return len(n.IP) == len(ip) && n.Contains(ip) }
	if slices.ContainsFunc(ca.ExcludedIPRanges, within) {
		return false
	}
	return len(ca.PermittedIPRanges) == 0 || slices.ContainsFunc(ca.PermittedIPRanges, within)
}
