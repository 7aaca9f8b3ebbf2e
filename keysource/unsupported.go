package keysource

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
)

// unsupportedKind names the kind of a private key (PEM) that neither Go nor Envoy takes. It
// returns "" for any other key.
func unsupportedKind(key []byte) string {
	all, _, err := blocks(key)
	if err != nil {
		return ""
	}
	for _, block := range all {
		switch block.Type {
		case "DSA PRIVATE KEY":
			return "DSA"
		case "PRIVATE KEY":
			var outer struct {
				Version   int
				Algorithm pkix.AlgorithmIdentifier
				Key       []byte
			}
			if _, err := asn1.Unmarshal(block.Bytes, &outer); err != nil && outer.Algorithm.Algorithm == nil {
				return ""
			}
			if outer.Algorithm.Algorithm.Equal(oidEC) {
				return unsupportedCurve(outer.Algorithm.Parameters)
			}
			return unsupportedKinds[outer.Algorithm.Algorithm.String()]
		}
	}
	return ""
}

var oidEC = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // RFC 5480, section 2.1.1

// unsupportedKinds are the algorithms of RFC 8410, RFC 4055 and RFC 3279.
var unsupportedKinds = map[string]string{
	"1.3.101.110":           "X25519",
	"1.3.101.111":           "X448",
	"1.3.101.113":           "Ed448",
	"1.2.840.113549.1.1.10": "RSA-PSS",
	"1.2.840.10040.4.1":     "DSA",
}

func unsupportedCurve(parameters asn1.RawValue) string {
	var curve asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(parameters.FullBytes, &curve); err != nil {
		return "ECDSA with explicit parameters"
	}
	switch id := curve.String(); {
	case id == "1.3.132.0.34", id == "1.3.132.0.35", id == "1.3.132.0.33", id == "1.2.840.10045.3.1.7":
		return ""
	case id == "1.3.132.0.10":
		return "ECDSA on secp256k1"
	case strings.HasPrefix(id, "1.3.36.3.3.2.8.1.1."):
		return "ECDSA on a brainpool curve"
	default:
		return "ECDSA on the curve " + id
	}
}
