package admin

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// guard passes a request on to next if its Host is a known one and its Origin, if any, is that
// host. Who may use which route is decided behind it (needs).
func guard(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ourHost(r.Host, hosts) {
			deny(w, "Host "+r.Host+" is not this server: use the address that it listens on")
			return
		}
		if o := r.Header.Get("Origin"); o != "" {
			if u, err := url.Parse(o); err != nil || u.Host != r.Host {
				deny(w, "Origin "+o+" may not use this API")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func deny(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "application/json")
	fail(w, &api.Error{Message: why, Code: api.Denied})
}

func ourHost(hostport string, hosts []string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || slices.Contains(hosts, host) {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
