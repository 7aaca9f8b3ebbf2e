package edgeproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// reason is why a handshake failed.
type reason int

const (
	otherReason reason = iota
	closedEarly
	timedOutEarly
	plainHTTP
	notTLS
	proxyHeaderBad
	noVersion
	noCipher
	noKeyExchange
	noSignature
	noProtocol
	noServerName
	unknownName
	notLoaded
	earlyData
	certMissing
	certExpired
	certUnknownCA
	certName
	certBad
	refusedByClient
	clientAlert
	malformedHello
	reasons
)

// String returns the label of the metric.
func (r reason) String() string {
	return [...]string{
		"other", "closed", "timeout", "plaintext", "not_tls", "proxy_header", "version", "cipher", "key_exchange",
		"signature", "protocol", "no_name", "unknown_name", "not_loaded", "early_data", "no_certificate", "expired",
		"unknown_ca", "client_name", "bad_certificate", "refused_by_client", "alert", "malformed",
	}[r]
}

// words are for people.
func (r reason) words() string {
	return [...]string{
		"it failed",
		"the client closed the connection before its end",
		"the client did not finish it in time (timeouts.header)",
		"the client sends HTTP in the clear to a TLS port: have it use https://",
		"what the client sends is no TLS",
		"the header of the PROXY protocol cannot be used",
		"the client offers no TLS version that this listener takes (min_version)",
		"the client offers no cipher suite that this listener takes with this certificate",
		"the client offers no key exchange (curve) that is taken here",
		"the client takes no signature that the certificate's key can make",
		"the client offers no application protocol (ALPN) that is spoken here",
		"the client sends no server name, and the listener has no fallback",
		"there is no certificate for the server name that the client asks for",
		"the certificate for the server name cannot be loaded now",
		"the client offers early data (0-RTT) with a ticket of another server; a browser begins again without",
		"the client shows no certificate, and the listener has a client_ca",
		"the client's certificate has expired, or is not valid yet",
		"the client's certificate is of a CA that is not in client_ca",
		"the client's certificate has none of the names in client_names",
		"the client's certificate cannot be used",
		"the client does not accept the certificate that it is served",
		"the client ended it with an alert",
		"the client breaks the rules of TLS",
	}[r]
}

// reasonSigns are parts of the errors of crypto/tls, which have no types. The first one that is
// found decides. A test makes these handshakes.
var reasonSigns = []struct {
	text   string
	reason reason
}{
	{"offered only unsupported versions", noVersion},
	{"inappropriate protocol fallback", noVersion},
	{"TLS version older than", noVersion},
	{"no cipher suite supported", noCipher},
	{"no key exchanges supported", noKeyExchange},
	{"no supported elliptic curves", noKeyExchange},
	{"incompatible point formats", noKeyExchange},
	{"certificate's signature algorithms", noSignature},
	{"unsupported application protocols", noProtocol},
	{"early data", earlyData},
	{"early_data", earlyData},
	{"didn't provide a certificate", certMissing},
	{"client certificate", certBad},
	{"certificate containing RSA key larger", certBad},
	{"PROXY protocol: ", proxyHeaderBad},
	{"SSLv2", notTLS},
	{"failed to sign", otherReason},
	{"internal error", otherReason},
	{"tls: ", malformedHello},
}

// distrust are the alerts by which a client refuses a certificate.
var distrust = []string{"bad certificate", "unsupported certificate", "revoked certificate", "expired certificate",
	"unknown certificate", "access denied"}

// reasonOf returns why a handshake failed.
func reasonOf(err error) reason {
	var (
		none    noCertificate
		cert    *tls.CertificateVerificationError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
		op      *net.OpError
		late    net.Error
	)
	text := err.Error()
	switch {
	case errors.Is(err, errNoName):
		return noServerName
	case errors.As(err, &none):
		if errors.Is(err, keysource.ErrNotExist) || errors.Is(err, keysource.ErrBadName) || errors.Is(err, errPattern) {
			return unknownName
		}
		return notLoaded
	case errors.Is(err, errNoClient):
		return certMissing
	case errors.Is(err, errClient):
		return certName
	case errors.As(err, &cert):
		switch {
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return certExpired
		case errors.As(err, &unknown):
			return certUnknownCA
		}
		return certBad
	case errors.As(err, &record):
		if looksLikeHTTP(record.RecordHeader) {
			return plainHTTP
		}
		return notTLS
	case errors.As(err, &op) && op.Op == "remote error":
		for _, alert := range distrust {
			if strings.Contains(text, alert) {
				return refusedByClient
			}
		}
		return clientAlert
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &late) && late.Timeout():
		return timedOutEarly
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return closedEarly
	case strings.HasPrefix(text, "PROXY protocol: "):
		return proxyHeaderBad
	}
	for _, s := range reasonSigns {
		if strings.Contains(text, s.text) {
			return s.reason
		}
	}
	return otherReason
}

// failed counts and logs a handshake that has failed.
func (l *listener) failed(remote string, a *attempt, err error) {
	p, why := l.proxy, reasonOf(err)
	if l.handshaking.Err() != nil { // the client has done nothing wrong
		p.opts.Log.Debug("a handshake is cut off, since the proxy stops", "listener", l.Address, "remote", remote)
		return
	}
	if a.early {
		why = earlyData // the error is what came of the answer in TLS 1.2
	}
	p.metrics.failed.WithLabelValues(why.String()).Inc()
	attrs := append(make([]any, 0, 8), slog.String("listener", l.Address), slog.String("remote", remote),
		slog.String("reason", why.String()))
	if a.hello {
		attrs = append(attrs, slog.String("server_name", a.name))
	}
	if why == noVersion {
		var offers []string
		for _, v := range a.versions[:min(len(a.versions), 8)] {
			offers = append(offers, tls.VersionName(v))
		}
		attrs = append(attrs, slog.Any("offers", offers))
	}
	attrs = append(attrs, slog.String("error", clipped(err.Error())))
	if why == closedEarly && !a.hello {
		// Health checks of balancers and scanners of ports do this all the time.
		p.opts.Log.Debug("a connection ended before its handshake", attrs...)
		return
	}
	before, leftOut, ok := p.failures.due(l.Address, remote, why, time.Now())
	if !ok {
		return
	}
	if before > 0 {
		attrs = append(attrs, slog.Int("same_before", before))
	}
	if leftOut > 0 {
		attrs = append(attrs, slog.Int("others_left_out", leftOut))
	}
	level := slog.LevelInfo // most of it is the client's fault
	if why == notLoaded || why == otherReason {
		level = slog.LevelWarn
	}
	p.opts.Log.Log(context.Background(), level, "a handshake failed: "+why.words(), attrs...)
}

// clipped bounds words that a client may have chosen.
func clipped(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

const (
	// repeatAfter is how long one address is not named again for the same reason.
	repeatAfter = time.Minute
	// maxPeers bounds the addresses that are remembered. Beyond it only the limit for all counts.
	maxPeers = 1024
)

// failures limits the lines of handshakes that fail. An address gets a line a minute for each
// reason and listener. All together are limited as well. It is safe for concurrent use.
type failures struct {
	lines *lines

	mu    sync.Mutex
	peers map[failedPeer]*failedTimes
}

type failedPeer struct {
	listener, host string
	reason         reason
}

type failedTimes struct {
	at    time.Time // at is when the line was written.
	since int       // since counts the failures after it.
}

func newFailures() *failures {
	return &failures{lines: newLines(), peers: map[failedPeer]*failedTimes{}}
}

// due reports whether a line is due now. Before is how many failures of that address and reason had
// none since its last line. LeftOut is how many of others had none.
func (f *failures) due(listener, remote string, r reason, now time.Time) (before, leftOut int, ok bool) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	k := failedPeer{listener, host, r}
	f.mu.Lock()
	defer f.mu.Unlock()
	have := f.peers[k]
	if have != nil && now.Sub(have.at) < repeatAfter {
		have.since++
		return 0, 0, false
	}
	leftOut, ok = f.lines.next(now)
	if !ok {
		return 0, 0, false
	}
	if have != nil {
		before = have.since
	} else if len(f.peers) >= maxPeers {
		for k, p := range f.peers {
			if now.Sub(p.at) >= repeatAfter {
				delete(f.peers, k)
			}
		}
	}
	if have != nil || len(f.peers) < maxPeers {
		f.peers[k] = &failedTimes{at: now}
	}
	return before, leftOut, true
}
