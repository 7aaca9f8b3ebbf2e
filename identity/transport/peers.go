package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Peers reaches the other replicas' admin APIs. It shows the server's own certificate, and
// verifies theirs by the CA of those who may connect. If m is nil, it speaks plaintext.
func (m *MTLS) Peers() http.RoundTripper {
	t := &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 5 * time.Second}
	if m == nil {
		return t
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := tls.Dialer{Config: m.Client()}
		return d.DialContext(ctx, network, addr)
	}
	return t
}
