package admin

import (
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// guard passes a request on to next if its Host is a known one and its Origin, if any, is that
// host. A request that does not only read must carry the token.
func guard(token string, hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deny := func(why string) {
			w.Header().Set("Content-Type", "application/json")
			fail(w, &api.Error{Message: why, Code: api.Denied})
		}
		if !ourHost(r.Host, hosts) {
			deny("Host " + r.Host + " is not this server: use the address that it listens on")
			return
		}
		if o := r.Header.Get("Origin"); o != "" {
			if u, err := url.Parse(o); err != nil || u.Host != r.Host {
				deny("Origin " + o + " may not use this API")
				return
			}
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
				deny("the admin token is missing or wrong: it is in admin.token of the data directory " +
					"(lockstep --token-file)")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
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
