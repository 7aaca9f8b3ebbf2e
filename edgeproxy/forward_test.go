package edgeproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
)

// seen answers with what the upstream was sent.
func seen(w http.ResponseWriter, r *http.Request) {
	r.Header.Set("Host", r.Host)
	json.NewEncoder(w).Encode(r.Header)
}

func TestOnlyTrustedProxiesSayWhoIsBehindThem(t *testing.T) {
	t.Parallel()
	up := origin(t, "http", seen)
	for _, c := range []struct {
		who, trusted string
		want         map[string]string
	}{
		{"anybody", "10.0.0.0/8", map[string]string{
			"X-Forwarded-For": "[127.0.0.1]", "X-Forwarded-Host": "[shop.example:8443]",
			"X-Forwarded-Proto": "[https]",
			"X-Forwarded-Port":  "[]", "X_forwarded_for": "[]", "Forwarded": "[]",
		}},
		{"a trusted proxy", "127.0.0.0/8", map[string]string{
			"X-Forwarded-For": "[6.6.6.6, 7.7.7.7, 127.0.0.1]", "X-Forwarded-Host": "[outside.example]",
			"X-Forwarded-Proto": "[http]",
			"X-Forwarded-Port":  "[80]", "Forwarded": "[for=6.6.6.6]",
		}},
	} {
		r := to(t, func(c0 *Config) { c0.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)} }, up)
		for _, proto := range protos {
			_, body := r.do(r.over(proto), "GET", "/", nil, func(q *http.Request) {
				q.Host = "shop.example:8443"
				q.Header = http.Header{
					"X-Forwarded-For": {"6.6.6.6", "7.7.7.7"}, "X-Forwarded-Host": {"outside.example"},
					"X-Forwarded-Proto": {"http"}, "X-Forwarded-Port": {"80"},
					"X_Forwarded_For": {"6.6.6.6"}, "Forwarded": {"for=6.6.6.6"}, "X-Own": {"kept"},
					"Te": {"trailers"}, "Proxy-Authorization": {"hop"}, "Keep-Alive": {"hop"}, "User-Agent": {""},
				}
				if proto == "http/1.1" {
					q.Header["Connection"] = []string{"X-Hop, X-Forwarded-For, Host"}
					q.Header["X-Hop"] = []string{"hop"}
				}
			})
			var got http.Header
			check(t, json.Unmarshal([]byte(body), &got))
			for name, want := range map[string]string{"X-Own": "[kept]", "Host": "[shop.example:8443]", "X-Hop": "[]",
				"Proxy-Authorization": "[]", "Keep-Alive": "[]", "Connection": "[]", "User-Agent": "[]",
				"Te": "[trailers]"} {
				c.want[name] = want
			}
			for name, want := range c.want {
				if fmt.Sprint(got[name]) != want {
					t.Errorf("%s, %s: %s: %v, not %s", c.who, proto, name, got[name], want)
				}
			}
		}
	}
}
