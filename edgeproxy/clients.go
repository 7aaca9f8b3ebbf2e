package edgeproxy

import (
	"crypto/x509"
	"errors"
	"path"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

var (
	errNoClient = errors.New("the client shows no certificate")
	errClient   = errors.New("the client's certificate carries none of the names in client_names")
)

// allowed reports whether a client's certificate has a name that a pattern matches. It is a DNS
// name, in which a star is the whole first label. Or it is a URI, in which a star stands between
// two slashes.
func allowed(patterns []string, leaf *x509.Certificate) bool {
	for _, pattern := range patterns {
		for _, n := range leaf.DNSNames {
			n := keysource.Name(strings.ToLower(n))
			if string(n) == pattern || n.Wildcard() != "" && string(n.Wildcard()) == pattern {
				return true
			}
		}
		for _, u := range leaf.URIs {
			if ok, err := path.Match(pattern, u.String()); err == nil && ok {
				return true
			}
		}
	}
	return false
}

// names lists the DNS names and URIs of leaf.
func names(leaf *x509.Certificate) []string {
	out := append([]string(nil), leaf.DNSNames...)
	for _, u := range leaf.URIs {
		out = append(out, u.String())
	}
	return out
}
