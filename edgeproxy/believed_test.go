package edgeproxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// lies are headers that a client may send, and that some upstream takes for a proxy's word.
var lies = []string{
	// as in reports
	"X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Original-URL",
	"X-Rewrite-URL", "X-SSL-Client-Verify", "X-SSL-Client-DN", "SSL-Client-Cert", "X-Envoy-External-Address",
	"Proxy", "X-Forwarded-For", "X-Forwarded-Client-Cert", "Forwarded", "X-Forwarded-Port", "X-Forwarded-Prefix",
	"X-Forwarded-User", "X-Forwarded-Tls-Client-Cert-Info",
	// other members
	"Fastly-Client-IP", "Fly-Client-IP", "DO-Connecting-IP", "CF-IPCountry", "Cf-Access-Authenticated-User-Email",
	"X-Azure-ClientIP", "X-ARR-ClientCert", "X-MS-CLIENT-PRINCIPAL", "X-MS-CLIENT-PRINCIPAL-NAME",
	"X-Goog-Authenticated-User-Email", "X-Amzn-Mtls-Clientcert-Leaf", "X-Amzn-Oidc-Identity", "X-Original-URI",
	"X-Original-Forwarded-For", "X-Envoy-Internal", "X-Envoy-Original-Path", "X-Envoy-Retry-On", "Client-Cert",
	"Client-Cert-Chain", "X-Client-Cert", "X-SSL", "X-SSL-Cert", "Remote-User", "X-Remote-User", "X-Remote-Group",
	"X-Remote-Extra-Scopes", "X-Remote-Addr", "X-WEBAUTH-USER", "X-Auth-Request-Email", "Front-End-Https",
	"X-Url-Scheme", "X-Scheme", "X-Host", "WL-Proxy-Client-IP", "WL-Proxy-SSL", "Proxy-Client-IP", "X-Accel-Mapping",
	"X-Sendfile-Type", "X-Middleware-Subrequest", "X-Originating-IP", "Tailscale-User-Login",
	"X-Client-Verified", "OIDC_CLAIM_email", "OIDC-Access-Token",
	// as CGI and some programs spell them
	"X_Real_IP", "X_FORWARDED_FOR", "x_forwarded_host", "X-Forwarded_Proto", "X.Real.IP", "X-Forwarded~For",
	"REMOTE_USER", "SCRIPT_NAME", "PATH_INFO", "HTTP_CLIENT_IP", "HTTP_X_FORWARDED_FOR", "SSL_CLIENT_CERT",
	"x_ssl_client_verify", "x_envoy_internal", "X_Forwarded_Client_Cert",
}

// truths are headers that belong to clients, although they look like the others.
var truths = []string{
	"X-Requested-With", "X-Request-Id", "X-Auth-Token", "X-Client-Version", "X-Client-Data", "X-Http-Method-Override",
	"X-Csrf-Token", "X-Original-Filename", "Authorization", "Via", "Priority", "Sec-Fetch-Site", "Traceparent",
	"X-Api-Key", "X-Proxied", "Proxied", "X-For", "Realm", "X_own_header", "Cfx", "Client", "Http-Name",
	"X-Amz-Date", "X-Goog-Api-Key", "X-Ms-Version", "Grpc-Timeout", "Origin",
}

const lie = "6.6.6.6"

// told returns what the upstream was sent: the names whose values hold the lie, and the header.
func told(body string) (lies []string, h http.Header, err error) {
	err = json.Unmarshal([]byte(body), &h)
	for name, values := range h {
		if strings.Contains(strings.Join(values, " "), lie) {
			lies = append(lies, name)
		}
	}
	return lies, h, err
}

func TestWhatOnlyProxiesSayIsNotTakenFromStrangers(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		origin(t, "http", seen))
	for _, proto := range protos {
		_, body := r.do(r.over(proto), "GET", "/", nil, func(q *http.Request) {
			for _, name := range lies {
				q.Header[name] = []string{lie, lie} // as it is spelled here
			}
			for _, name := range truths {
				q.Header[name] = []string{"mine"}
			}
		})
		arrived, h, err := told(body)
		check(t, err)
		if len(arrived) > 0 {
			t.Errorf("%s: the upstream is told %q", proto, arrived)
		}
		for _, name := range truths {
			if h.Get(name) != "mine" {
				t.Errorf("%s: %s is lost", proto, name)
			}
		}
		for name, want := range map[string]string{"X-Real-Ip": "[127.0.0.1]", "X-Forwarded-For": "[127.0.0.1]",
			"X-Forwarded-Host": "[shop.example]", "X-Forwarded-Proto": "[https]"} {
			if fmt.Sprint(h[name]) != want {
				t.Errorf("%s: %s is %v", proto, name, h[name])
			}
		}
	}
}

// A Connection header names what the next hop is not to see. It takes nothing from what the edge
// says, and nothing from what a trusted proxy has said.
func TestAConnectionHeaderTakesNothingFromTheProxy(t *testing.T) {
	t.Parallel()
	for trusted, want := range map[string][2]string{
		"10.0.0.0/8":  {"[127.0.0.1]", "[127.0.0.1]"},
		"127.0.0.0/8": {"[6.6.6.6]", "[6.6.6.6, 127.0.0.1]"},
	} {
		r := to(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)} },
			origin(t, "http", seen))
		for _, upgrade := range []string{"", "Upgrade: websocket\r\nConnection: Upgrade\r\n"} {
			c := r.dial(shop, "http/1.1")
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n"+upgrade+
				"Connection: X-Real-IP, x-forwarded-for\r\nconnection: X-FORWARDED-HOST,X-Forwarded-Proto\r\n"+
				"x-real-ip: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			check(t, err)
			var h http.Header
			check(t, json.NewDecoder(resp.Body).Decode(&h))
			for i, name := range []string{"X-Real-Ip", "X-Forwarded-For"} {
				if fmt.Sprint(h[name]) != want[i] {
					t.Errorf("%s is trusted, upgrade %q: %s is %v, not %s", trusted, upgrade, name, h[name], want[i])
				}
			}
			if h.Get("X-Forwarded-Host") != shop || h.Get("X-Forwarded-Proto") != "https" {
				t.Errorf("%s is trusted, upgrade %q: %v", trusted, upgrade, h)
			}
		}
	}
}

func TestATrustedProxysWordStays(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} },
		origin(t, "http", seen))
	for _, proto := range protos {
		_, body := r.do(r.over(proto), "GET", "/", nil, func(q *http.Request) {
			for _, name := range lies {
				q.Header[name] = []string{lie}
			}
		})
		arrived, _, err := told(body)
		check(t, err)
		if len(arrived) != len(lies) {
			t.Errorf("%s: %d of %d: %q", proto, len(arrived), len(lies), arrived)
		}
	}
}

// The nearest address that is no trusted proxy's is the client's, if no proxy names it.
func TestTheClientBehindTrustedProxiesIsToldToUpstreams(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("2001:db8::/32")}
	}, origin(t, "http", seen))
	c := r.over("h2")
	for _, test := range []struct {
		forwarded []string
		want      string
	}{
		{nil, "127.0.0.1"},
		{[]string{"192.0.2.7"}, "192.0.2.7"},
		{[]string{"6.6.6.6, 192.0.2.7"}, "192.0.2.7"},
		{[]string{"6.6.6.6", "192.0.2.7 , 10.1.2.3"}, "192.0.2.7"},
		{[]string{"192.0.2.7:4711"}, "192.0.2.7"},
		{[]string{"[2001:db9::7]:4711"}, "2001:db9::7"},
		{[]string{"[2001:db9::7]"}, "2001:db9::7"},
		{[]string{"2001:db9::7,2001:db8::1"}, "2001:db9::7"},
		{[]string{"::ffff:192.0.2.7"}, "192.0.2.7"},
		{[]string{"10.1.1.1, 10.1.2.3"}, "10.1.1.1"},
		{[]string{"unknown, 10.1.2.3"}, "10.1.2.3"},
		{[]string{"192.0.2.7, _hidden"}, "127.0.0.1"},
		{[]string{""}, "127.0.0.1"},
	} {
		_, body := r.do(c, "GET", "/", nil, func(q *http.Request) { q.Header["X-Forwarded-For"] = test.forwarded })
		_, h, err := told(body)
		check(t, err)
		if fmt.Sprint(h["X-Real-Ip"]) != "["+test.want+"]" {
			t.Errorf("%q: %v, not %s", test.forwarded, h["X-Real-Ip"], test.want)
		}
	}
}

// Some upstreams add the fields after a body to those before it.
func TestATrailerIsNoWayRound(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c"} {
		up := origin(t, scheme, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			for name, v := range r.Trailer {
				r.Header[name] = v
			}
			seen(w, r)
		})
		for trusted, lost := range map[string]bool{"10.0.0.0/8": true, "127.0.0.0/8": false} {
			r := to(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)} }, up)
			for _, proto := range protos {
				sent := io.MultiReader(strings.NewReader("body"))
				_, body := r.do(r.over(proto), "POST", "/", sent, func(q *http.Request) {
					q.Trailer = http.Header{"X-Cluster-Client-Ip": {lie}, "X_real_ip": {lie}, "X-Sum": {"12"}}
				})
				arrived, h, err := told(body)
				check(t, err)
				if h.Get("X-Sum") != "12" || len(arrived) != map[bool]int{true: 0, false: 2}[lost] {
					t.Errorf("%s to %s, %s is trusted: %v", proto, scheme, trusted, h)
				}
			}
			// one that is not announced
			c := r.dial(shop, "http/1.1")
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n"+
				"Trailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 12\r\nX-Cluster-Client-IP: 6.6.6.6\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			check(t, err)
			b, err := io.ReadAll(resp.Body)
			check(t, err)
			arrived, h, err := told(string(b))
			check(t, err)
			if h.Get("X-Sum") != "12" || lost && len(arrived) > 0 {
				t.Errorf("not announced, to %s, %s is trusted: %v", scheme, trusted, h)
			}
		}
	}
}

func TestAHeaderIsKnownByItsBeginningHoweverLongItIs(t *testing.T) {
	long := strings.Repeat("long", 1000)
	for _, name := range lies {
		for _, spelled := range []string{name, strings.ToUpper(name), strings.ToLower(name),
			strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."),
			"HTTP_" + strings.TrimPrefix(name, "HTTP_")} {
			if !believed(spelled) {
				t.Errorf("%s is passed on", spelled)
			}
		}
	}
	for _, name := range []string{"X-Forwarded-" + long, "x_envoy_" + long, "HTTP_X_SSL_" + long, "Remote~" + long} {
		if !believed(name) {
			t.Errorf("%.30s... is passed on", name)
		}
	}
	for _, name := range append(truths, "", "-", "HTTP_", "Http-", "x", "proxy-authorization", "Host", "Proxy"+long,
		"Client-Ip"+long, long) {
		if believed(name) {
			t.Errorf("%.30s... is removed", name)
		}
	}
}
