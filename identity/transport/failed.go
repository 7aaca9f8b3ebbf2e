package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/credentials"
)

const (
	// repeatAfter is how long one address is not named again for the same reason.
	repeatAfter = time.Minute
	// maxPeers bounds the addresses that are remembered. Beyond it only the limit for all counts.
	maxPeers = 1024
)

// Failures logs and counts handshakes that failed. An address gets a line a minute for each reason
// and listener. All together get twenty lines, and then one a second. Each line says how many were
// left out before it. All methods are safe for concurrent use.
type Failures struct {
	log   *slog.Logger
	lines *rate.Limiter

	mu      sync.Mutex
	counts  map[string]*[Reasons]uint64 // by listener
	peers   map[failedPeer]*failed
	leftOut uint64 // leftOut counts those of addresses that are not remembered.
}

type failedPeer struct {
	listener, host string
	reason         Reason
}

type failed struct {
	at    time.Time // at is when the line was written.
	since int       // since counts the failures after it.
}

// NewFailures returns one without failures.
func NewFailures(log *slog.Logger) *Failures {
	return &Failures{
		log: log, lines: rate.NewLimiter(1, 20),
		counts: map[string]*[Reasons]uint64{}, peers: map[failedPeer]*failed{},
	}
}

// Counts returns how many handshakes failed so far, by listener and [Reason]. Every listener is in
// it. One that speaks plaintext knows the reason TLS only.
func (f *Failures) Counts() map[string][Reasons]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string][Reasons]uint64, len(f.counts))
	for listener, n := range f.counts {
		out[listener] = *n
	}
	return out
}

// of makes sure that a listener is counted.
func (f *Failures) of(listener string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts[listener] == nil {
		f.counts[listener] = new([Reasons]uint64)
	}
}

// add takes a failure. Claims is who the peer's certificate says it is, which nobody has verified.
func (f *Failures) add(listener, addr, claims string, err error) {
	reason := reasonOf(err.Error())
	if errors.Is(err, io.EOF) && reason == OtherReason {
		reason = Closed
	}
	f.mu.Lock()
	f.counts[listener][reason]++
	f.mu.Unlock()
	if reason == Closed {
		f.log.Debug("a connection ended before its handshake", "listener", listener, "remote", addr, "err", err)
		return
	}
	before, leftOut, tell := f.due(listener, addr, reason, time.Now())
	if !tell {
		return
	}
	f.log.Warn("a peer cannot connect: "+reason.Words(), "listener", listener, "remote", addr,
		"reason", reason.String(), "claims_to_be", claims, "err", err,
		"same_before", before, "others_left_out", leftOut)
}

// due reports whether a line is due now. Before is how many failures of that address and reason
// had none since its last line.
func (f *Failures) due(listener, addr string, reason Reason, now time.Time) (before int, leftOut uint64, tell bool) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	k := failedPeer{listener, host, reason}
	f.mu.Lock()
	defer f.mu.Unlock()
	have := f.peers[k]
	if have != nil && now.Sub(have.at) < repeatAfter {
		have.since++
		return 0, 0, false
	}
	if !f.lines.AllowN(now, 1) {
		if have != nil {
			have.since++
		} else {
			f.leftOut++
		}
		return 0, 0, false
	}
	if have != nil {
		before = have.since
	} else if len(f.peers) >= maxPeers {
		f.forget(now)
	}
	if have != nil || len(f.peers) < maxPeers {
		f.peers[k] = &failed{at: now}
	}
	leftOut, f.leftOut = f.leftOut, 0
	return before, leftOut, true
}

// forget drops the addresses whose line is old enough to be written again.
func (f *Failures) forget(now time.Time) {
	for k, p := range f.peers {
		if now.Sub(p.at) >= repeatAfter {
			f.leftOut += uint64(p.since)
			delete(f.peers, k)
		}
	}
}

// Credentials returns c, whose failed handshakes are taken by f as those of a listener.
func (f *Failures) Credentials(listener string, c credentials.TransportCredentials) credentials.TransportCredentials {
	f.of(listener)
	return watchedCredentials{c, listener, f}
}

type watchedCredentials struct {
	credentials.TransportCredentials
	listener string
	failures *Failures
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c watchedCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil && !errors.Is(err, credentials.ErrConnDispatched) {
		c.failures.add(c.listener, raw.RemoteAddr().String(), claims(err), err)
	}
	return conn, info, err
}

// Clone implements [credentials.TransportCredentials].
func (c watchedCredentials) Clone() credentials.TransportCredentials {
	return watchedCredentials{c.TransportCredentials.Clone(), c.listener, c.failures}
}

// claims returns who the certificate that was not believed says it is.
func claims(err error) string {
	var bad *tls.CertificateVerificationError
	if !errors.As(err, &bad) || len(bad.UnverifiedCertificates) == 0 {
		return ""
	}
	c := certificate("", "", bad.UnverifiedCertificates[0])
	return clip(c.Name) + " until " + c.NotAfter.UTC().Format(time.RFC3339)
}

// clip bounds words of a peer.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// ErrorLog returns a handler for [net/http.Server].ErrorLog. It takes the failed handshakes out of
// the lines of that server, and passes the others on to log as they are.
func (f *Failures) ErrorLog(listener string, log slog.Handler) slog.Handler {
	f.of(listener)
	return httpLog{log, listener, f}
}

type httpLog struct {
	slog.Handler
	listener string
	failures *Failures
}

// Handle implements [slog.Handler].
func (h httpLog) Handle(ctx context.Context, r slog.Record) error {
	// "http: TLS handshake error from 127.0.0.1:4711: EOF"
	if rest, ok := strings.CutPrefix(r.Message, "http: TLS handshake error from "); ok {
		if addr, text, ok := strings.Cut(rest, ": "); ok {
			h.failures.add(h.listener, addr, "", errors.New(text))
			return nil
		}
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// Enabled implements [slog.Handler]: what is counted is needed at every level.
func (h httpLog) Enabled(context.Context, slog.Level) bool { return true }
