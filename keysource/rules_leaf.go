package keysource

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// keyUsage refuses an ECDSA leaf whose keyUsage lacks digitalSignature (BoringSSL,
// ssl/ssl_credential.cc).
// Envoy takes RSA and Ed25519 leaves with any keyUsage.
func keyUsage(c candidate) string {
	leaf := c.leaf()
	i := slices.IndexFunc(leaf.Extensions, isExt(oidKeyUsage))
	if leaf.PublicKeyAlgorithm != x509.ECDSA || i < 0 {
		return ""
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return "its keyUsage lacks digitalSignature: Envoy refuses it; have it issued with that usage"
	}
	if _, set, rest := element(leaf.Extensions[i].Value); oddBits(set) || len(rest) > 0 {
		return "its keyUsage is malformed: Envoy refuses it; have it issued anew"
	}
	return ""
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
		return "it has the TLS feature status_request, and no staple comes with it: Envoy refuses it; have it " +
			"issued without the extension"
	}
	return ""
}

// emptyCommonName looks at the first common name, as Envoy does (generateHashForSessionContextId).
func emptyCommonName(c candidate) string {
	if name, ok := firstCommonName(c.leaf()); ok && name == "" {
		return "its subject has an empty common name: Envoy refuses it; have it issued with a name in it, or " +
			"without a common name"
	}
	return ""
}

// noName counts what Envoy counts: a common name, or a DNS name, IP address or URI.
func noName(c candidate) string {
	leaf := c.leaf()
	if _, ok := firstCommonName(leaf); ok {
		return ""
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.URIs) == 0 {
		return "it has neither a common name nor a subject alternative name: Envoy refuses it; have it issued " +
			"for the host's name"
	}
	if !plainAltNames(leaf) {
		return "it has no common name, and an alternative name that Envoy may not read: have it issued with a " +
			"common name, or for DNS names only"
	}
	return ""
}

// The tags of GeneralNames (RFC 5280, section 4.2.1.6). BoringSSL reads any bytes in them, except
// in an otherName.
const (
	tagOtherName = 0xa0
	tagEmail     = 0x81
	tagDNS       = 0x82
	tagURI       = 0x86
	tagIP        = 0x87
)

// plainAltNames reports whether BoringSSL certainly reads the alternative names. If one is broken,
// of whatever kind, it counts none of them. Go passes over the kinds that it does not use.
func plainAltNames(c *x509.Certificate) bool {
	i := slices.IndexFunc(c.Extensions, isExt(oidSubjectAltName))
	if i < 0 {
		return true
	}
	_, names, rest := element(c.Extensions[i].Value)
	for len(names) > 0 {
		var tag byte
		var content []byte
		switch tag, content, names = element(names); tag {
		case tagEmail, tagDNS, tagURI, tagIP:
		case tagOtherName:
			if !otherName(content) {
				return false
			}
		default:
			return false
		}
	}
	return len(rest) == 0
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
