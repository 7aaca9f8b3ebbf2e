package replica

import (
	"net"
	"os"
)

// URL returns where the other replicas find this one's admin API, which listens at a. It is "" for
// a socket. A name in listen stays one, since certificates are issued to names. For an address that
// listens everywhere it is the host's name.
func URL(scheme, listen string, a net.Addr) string {
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
