package transport

import "strings"

// Reason is why a handshake failed.
type Reason int

// These are the reasons. Closed is what probes of load balancers do: they connect, and go away.
const (
	OtherReason Reason = iota
	ExpiredCertificate
	UnknownCA
	NoCertificate
	WrongProtocol
	Plaintext
	TLS
	Timeout
	RefusedByPeer
	Closed
	Reasons int = iota
)

// String returns the label of a metric.
func (r Reason) String() string {
	return [...]string{"other", "expired", "unknown_ca", "no_certificate", "protocol", "plaintext", "tls", "timeout",
		"refused_by_peer", "closed"}[r]
}

// Words are for people.
func (r Reason) Words() string {
	return [...]string{
		"the handshake failed",
		"its certificate has expired, or is not valid yet",
		"its certificate is of a CA that is not among those who may connect",
		"it shows no certificate",
		"it speaks no TLS version or protocol (ALPN) that is spoken here",
		"it sends plaintext to a TLS port: have it speak TLS, with a certificate of its own",
		"it speaks TLS to a plaintext port: have it connect without TLS, or give lockstepd a certificate " +
			"(xds_cert, xds_key, xds_client_ca)",
		"it did not finish the handshake in time",
		"it does not believe lockstepd's own certificate, and ended the handshake",
		"it connected and went away",
	}[r]
}

// signs are parts of the errors of crypto/tls, crypto/x509, go-spiffe and gRPC. The first one that
// is found decides. A test makes each of these handshakes.
var signs = []struct {
	text   string
	reason Reason
}{
	{"remote error: tls: unsupported protocol version", WrongProtocol},
	{"remote error: tls: no application protocol", WrongProtocol},
	{"remote error: ", RefusedByPeer},
	{"certificate has expired or is not yet valid", ExpiredCertificate},
	{"signed by unknown authority", UnknownCA},
	{"no X.509 bundle", UnknownCA},
	{"unexpected trust domain", UnknownCA},
	{"client didn't provide a certificate", NoCertificate},
	{"does not look like a TLS handshake", Plaintext},
	{"client sent an HTTP request to an HTTPS server", Plaintext},
	{errTLS.Error(), TLS},
	{"client offered only unsupported versions", WrongProtocol},
	{"unsupported application protocols", WrongProtocol},
	{"no cipher suite supported", WrongProtocol},
	{"missing selected ALPN property", WrongProtocol},
	{"i/o timeout", Timeout},
	{"deadline exceeded", Timeout},
	{"EOF", Closed},
	{"connection reset by peer", Closed},
	{"broken pipe", Closed},
}

func reasonOf(text string) Reason {
	for _, s := range signs {
		if strings.Contains(text, s.text) {
			return s.reason
		}
	}
	return OtherReason
}
