package daemon

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
)

// adminURL is where the other replicas find this one's admin API; empty on a socket. A name in listen stays one, since certificates are issued to names;
// an address that listens everywhere is told as the host's name.
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

// scopesOf returns which scopes' rings p allows; nil, if p is none, allows all.
func scopesOf(p *identity.Policy) func(identity, scope string) bool {
	if p == nil {
		return nil
	}
	return p.AllowsScope
}

// revoked says that a node may no longer have the ring of a scope.
func (d *Daemon) revoked(scope string, a fleet.Asked) {
	d.log.Warn("a node may no longer have the ring of a scope, and gets no further one; it keeps the keys that it holds: "+
		"if it must not read tickets made with them, burn them (lockstep burn)",
		"node", a.Node, "identity", a.Identity, "scope", scope, "holds", a.Held)
}

// unreachable warns of a replica that cannot ask this one for its nodes.
func (d *Daemon) unreachable(p fleet.Peer) {
	d.log.Warn("another replica is on another machine, as it seems, and cannot ask this one for its nodes, "+
		"since this one's admin API listens on loopback: "+
		"set admin_listen (--admin-listen) to an address that the other replicas reach",
		"replica", p.Replica, "its_admin", p.Admin, "admin_listen", d.self)
}
