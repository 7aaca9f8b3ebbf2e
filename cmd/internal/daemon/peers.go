package daemon

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/lockstep-tls/lockstep/identity/transport"
)

// adminURL returns where the other replicas find this one's admin API, or "" if it is on a socket.
// A name in listen stays one, since certificates are issued to names. For an address that listens
// everywhere it is the host's name.
func adminURL(scheme, listen string, a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	addr := tcp.String()
	_, port, _ := net.SplitHostPort(addr)
	name, _, _ := net.SplitHostPort(listen)
	switch {
	case tcp.IP.IsUnspecified():
		var err error
		if name, err = os.Hostname(); err != nil {
			return ""
		}
		addr = net.JoinHostPort(name, port)
	case name != "" && net.ParseIP(name) == nil:
		addr = net.JoinHostPort(name, port)
	}
	return scheme + "://" + addr
}

// peerTransport reaches the other replicas' admin APIs. It shows the server's own certificate, and
// verifies theirs by the CA of those who may connect.
func peerTransport(files *transport.MTLS) http.RoundTripper {
	t := &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 5 * time.Second}
	if files == nil {
		return t
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := tls.Dialer{Config: files.Client()}
		return d.DialContext(ctx, network, addr)
	}
	return t
}
