package corpus

import "strings"

// reasons say why lockstepd refuses what Envoy serves to some client. words is what the refusal
// begins with, after "bad certificate: ".
var reasons = []struct{ words, reason string }{
	{"it is for other names", "clients match the host with the alternative names; " +
		"only OpenSSL goes by the common name, or by none"},
	{"certificate", "each certificate must be signed by the next, so that a chain in disorder is noticed; " +
		"some clients refuse it"},
	{"chain: certificate", "Go cannot read it: its clients refuse it, and lockstep-edge cannot serve it"},
	{"private key: cannot be parsed", "Go cannot read the key (RSA exponents above 32 bits): " +
		"lockstep-edge cannot serve it"},
	{"extended-key-usage", "only OpenSSL takes server gated crypto for serverAuth"},
	{"must-staple", "Envoy knows one encoding of the extension; clients that heed it refuse others, too"},
	{"chain-size", "OpenSSL's and BoringSSL's clients take 100 KiB of certificates, only Go's take more"},
	{"structure", "BoringSSL does not read it from some version on (Envoy serves an empty set in a name up to 1.37, " +
		"not from 1.38 on)"},
	{"critical-extension", "Go's clients do not know it (nameConstraints for directory names)"},
}

// reasonFor returns the reason for a refusal, or "".
func reasonFor(refusal string) string {
	_, words, _ := strings.Cut(refusal, "bad certificate: ")
	for _, r := range reasons {
		if strings.HasPrefix(words, r.words) {
			return r.reason
		}
	}
	return ""
}
