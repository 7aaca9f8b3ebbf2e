package edgeproxy

import (
	"crypto/tls"
	"errors"
	"slices"

	"github.com/lockstep-tls/lockstep/edgeproxy/ticket"
)

// protocols are what the edge speaks, in the order of preference (ALPN).
var protocols = []string{"h2", "http/1.1"}

// suites are those of TLS 1.2: authenticated encryption with an ephemeral key exchange, as Envoy
// has them by default. Crypto/tls would also take CBC with SHA-1. The suites of TLS 1.3 cannot be
// chosen.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// configs are for the ClientHellos that a listener gets. They differ in what cannot be chosen
// within one configuration.
type configs struct {
	usual choice
	// early is for clients that offer early data.
	early choice
}

// choice is a configuration, with protocols and without.
type choice struct{ alpn, none *tls.Config }

// configs makes the configurations of a ring.
func (l *listener) configs(k ticket.Keys) *configs {
	return &configs{
		usual: choice{l.config(k, protocols), l.config(k, nil)},
		early: choice{l.onlyTLS12(protocols), l.onlyTLS12(nil)},
	}
}

// forClient chooses the configuration for a ClientHello.
func (l *listener) forClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	a := attemptOf(hello)
	a.hello, a.name, a.versions = true, hello.ServerName, hello.SupportedVersions
	all := l.current.Load()
	if n := l.namelessAt(hello); n != "" {
		all = l.forAddress(n)
	} else if l.ofProbe(hello.Context(), hello.ServerName) {
		all = l.forProbes
	}
	fit := all.usual
	if slices.Contains(hello.Extensions, extensionEarlyData) {
		l.proxy.metrics.early.Inc()
		a.early = true
		if slices.Contains(hello.SupportedVersions, tls.VersionTLS12) {
			fit = all.early
		}
	}
	if !shared(hello.SupportedProtos) {
		return fit.none, nil
	}
	return fit.alpn, nil
}

// shared reports whether the edge speaks one of the protocols that a client offers. If it speaks
// none, the handshake goes on without a protocol, as at Envoy, and the client is taken to speak
// HTTP/1.1. Crypto/tls would end the handshake. A client that offers acme-tls/1 alone gets no such
// protocol either, which tells it that its challenge is not answered here.
func shared(offered []string) bool {
	return len(offered) == 0 || slices.ContainsFunc(offered, func(p string) bool {
		return slices.Contains(protocols, p)
	})
}

// extensionEarlyData is the number of the extension with which a client offers early data (0-RTT).
// It does so with a ticket that allows this. Tickets of the edge do not. So another server has made
// the ticket, which was at this address before.
const extensionEarlyData = 42

// onlyTLS12 answers a client that offers early data.
//
// RFC 8446, section 4.2.10, says how a server of TLS 1.3 declines the offer. Crypto/tls does not do
// that: it ends the handshake with an alert. A reader in front of it cannot do it either, since the
// ClientHello with the offer goes into the keys. But section D.3 says what clients do with a server
// of TLS 1.2. They end the handshake, and may begin again without early data. Browsers do that at
// once, and their users see nothing of it. After an alert their requests fail, once for each ticket
// that they hold.
//
// Nobody may go on in TLS 1.2, which the client would not have chosen.
func (l *listener) onlyTLS12(protocols []string) *tls.Config {
	c := l.config(noKeys, protocols)
	c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	c.VerifyConnection = func(tls.ConnectionState) error { return errEarlyData }
	return c
}

var errEarlyData = errors.New("the client offers early data (0-RTT) with a ticket of another server, " +
	"and does not begin again without it")
