package keysource

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// keyUsage refuses an ECDSA leaf whose keyUsage lacks digitalSignature (BoringSSL, ssl/ssl_credential.cc).
// Envoy takes RSA and Ed25519 leaves with any keyUsage.
func keyUsage(c candidate) string {
	leaf := c.leaf()
	if leaf.PublicKeyAlgorithm != x509.ECDSA || leaf.KeyUsage&x509.KeyUsageDigitalSignature != 0 {
		return ""
	}
	if !slices.ContainsFunc(leaf.Extensions, isExt(oidKeyUsage)) {
		return ""
	}
	return "its keyUsage lacks digitalSignature: Envoy refuses it; have it issued with that usage"
}

// statusRequest is the TLS feature of must-staple (RFC 7633, section 6; RFC 6066, section 8).
const statusRequest = 5

// mustStaple refuses a leaf with the TLS feature status_request, since no staple is sent with it.
func mustStaple(c candidate) string {
	i := slices.IndexFunc(c.leaf().Extensions, isExt(oidTLSFeature))
	if i < 0 {
		return ""
	}
	var features []int
	rest, err := asn1.Unmarshal(c.leaf().Extensions[i].Value, &features)
	if err != nil || len(rest) > 0 {
		return "its TLS feature extension is malformed: have it issued without the extension"
	}
	if slices.Contains(features, statusRequest) {
		return "must-staple (TLS feature status_request) and no staple comes with it: Envoy refuses it; have it issued without the extension"
	}
	return ""
}

// emptyCommonName looks at the first common name, as Envoy does (generateHashForSessionContextId).
func emptyCommonName(c candidate) string {
	if name, ok := firstCommonName(c.leaf()); ok && name == "" {
		return "its subject has an empty common name: Envoy refuses it; have it issued with a name in it, or without a common name"
	}
	return ""
}

// noName counts what Envoy counts: a common name, or a DNS name, IP address or URI.
func noName(c candidate) string {
	leaf := c.leaf()
	if _, ok := firstCommonName(leaf); ok || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.URIs) > 0 {
		return ""
	}
	return "it has neither a common name nor a subject alternative name: Envoy refuses it; have it issued for the host's name"
}

func firstCommonName(c *x509.Certificate) (string, bool) {
	for _, a := range c.Subject.Names {
		if a.Type.Equal(oidCommonName) {
			name, _ := a.Value.(string)
			return name, true
		}
	}
	return "", false
}

var (
	oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidKeyUsage   = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
)
