package daemon

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"time"
)

// adminURL is where the other replicas find this one's admin API; empty on a socket. An address that listens everywhere is told as the host's name.
func adminURL(scheme string, a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	addr := tcp.String()
	if tcp.IP.IsUnspecified() {
		name, err := os.Hostname()
		if err != nil {
			return ""
		}
		_, port, _ := net.SplitHostPort(addr)
		addr = net.JoinHostPort(name, port)
	}
	return scheme + "://" + addr
}

// peerTransport reaches the other replicas' admin APIs: with the server's own certificate, against the CA of those who may connect.
func peerTransport(files *serverTLS) http.RoundTripper {
	t := &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 5 * time.Second}
	if files == nil {
		return t
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := tls.Dialer{Config: files.client()}
		return d.DialContext(ctx, network, addr)
	}
	return t
}
