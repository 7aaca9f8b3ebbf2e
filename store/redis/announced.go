package redis

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Announced says where a server is reached that others know by another address.
type Announced struct {
	From string // host:port, or a host, for all of its ports
	To   string // host:port, or a host, whose port is that of From
}

// parseAnnounced reads from=to,from=to.
func parseAnnounced(list string) ([]Announced, error) {
	var all []Announced
	seen := map[string]bool{}
	for _, pair := range strings.Split(list, ",") {
		from, to, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("store: announce %.100q is not announced=reachable, such as "+
				"172.17.0.2:6379=203.0.113.5:16379", pair)
		}
		a, port, err := address(from)
		if err != nil {
			return nil, fmt.Errorf("store: announce %.100q: %.100q %w", pair, from, err)
		}
		b, toPort, err := address(to)
		if err != nil {
			return nil, fmt.Errorf("store: announce %.100q: %.100q %w", pair, to, err)
		}
		switch {
		case port == "" && toPort != "":
			return nil, fmt.Errorf("store: announce %.100q leads every port of %s to one: "+
				"name the announced port, too, or leave out the other", pair, a)
		case seen[join(a, port)]:
			return nil, fmt.Errorf("store: announce names %s twice", join(a, port))
		}
		seen[join(a, port)] = true
		all = append(all, Announced{join(a, port), join(b, toPort)})
	}
	return all, nil
}

// address reads host[:port]. Hosts that are the same are written the same.
func address(text string) (host, port string, err error) {
	host = text
	if h, p, err := net.SplitHostPort(text); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return "", "", errors.New("has no port from 1 to 65535")
		}
		host, port = h, p
	}
	if h, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(h, "]")
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		return ip.Unmap().String(), port, nil
	case host == "" || strings.Contains(host, ":") || strings.Trim(host, nameBytes) != "":
		return "", "", errors.New("is not host:port or a host")
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), port, nil
}

// join is net.JoinHostPort; without a port it is the host.
func join(host, port string) string {
	if port == "" {
		return host
	}
	return net.JoinHostPort(host, port)
}

// reach returns where the server is reached that has the address addr. A cluster that does not know
// its own address gives none: it is where the URL says.
func (c *Config) reach(addr string) string {
	if port, ok := strings.CutPrefix(addr, ":"); ok {
		if host, _, err := net.SplitHostPort(c.Servers[0]); err == nil {
			return net.JoinHostPort(host, port)
		}
	}
	host, port, err := address(addr)
	if err != nil {
		return addr
	}
	for _, from := range []string{join(host, port), host} {
		for _, a := range c.Announced {
			if a.From != from {
				continue
			}
			if _, p, err := address(a.To); err == nil && p == "" {
				return join(a.To, port)
			}
			return a.To
		}
	}
	return addr
}
