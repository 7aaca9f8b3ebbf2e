package edgeproxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const probePath = "/-/healthy"

// probes are requests as health checks send them.
var probes = map[string]string{
	"HAProxy, httpchk":          "GET /-/healthy HTTP/1.0\r\n\r\n",
	"HAProxy, without a method": "OPTIONS /-/healthy HTTP/1.0\r\n\r\n",
	"HAProxy, with a host":      "GET /-/healthy HTTP/1.1\r\nhost: 10.0.0.1:8443\r\n\r\n",
	"Kubernetes": "GET /-/healthy HTTP/1.1\r\nHost: 10.0.0.1:8443\r\nUser-Agent: kube-probe/1.34\r\n" +
		"Accept: */*\r\nConnection: close\r\n\r\n",
	"Kubernetes, IPv6": "GET /-/healthy HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nUser-Agent: kube-probe/1.34\r\n" +
		"Accept: */*\r\nConnection: close\r\n\r\n",
	"ELB": "GET /-/healthy HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n" +
		"User-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n",
	"nginx":             "GET /-/healthy HTTP/1.0\r\nHost: backend_pool\r\nConnection: close\r\n\r\n",
	"an empty host":     "GET /-/healthy HTTP/1.1\r\nHost:\r\n\r\n",
	"a head":            "HEAD /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"the whole address": "GET http://10.0.0.1:8443/-/healthy HTTP/1.1\r\nHost: 10.0.0.1:8443\r\n\r\n",
	"a query":           "GET /-/healthy?full=1 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
	"a site's host":     "GET /-/healthy HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	"kept alive":        "GET /-/healthy HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: keep-alive\r\n\r\n",
}

// nothing are requests for which there is nothing on a connection of a probe.
var nothing = map[string]string{
	"another path":    "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	"an address":      "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
	"no host":         "GET / HTTP/1.0\r\n\r\n",
	"a longer path":   "GET /-/healthy/x HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	"a slash more":    "GET /-/healthy/ HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	"another spell":   "GET /%2d/healthy HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	"another method":  "POST /-/healthy HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n",
	"a tunnel":        "CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	"another host":    "GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n",
	"a web socket":    "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"a dotted detour": "GET /-/../ HTTP/1.1\r\nHost: shop.example\r\n\r\n",
}

// say sends a request over a new connection to a listener, with the server name, and returns the
// status and the body.
func (r *rig) say(at int, name, request string) (status int, body string, err error) {
	r.Helper()
	c, err := tls.Dial("tcp", r.addrs[at], &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		return 0, "", err
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestHealthChecksAreAnsweredWhateverTheyCallTheHost(t *testing.T) {
	t.Parallel()
	file := clientCA(t, ca(t, "clients"))
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{HealthPath: probePath}, {HealthPath: probePath, ClientCA: file},
			{HealthPath: probePath, Fallback: shop}}
	}, origin(t, "http", seen))
	n := 0
	for at := range 3 {
		for what, request := range probes {
			status, body, err := r.say(at, "", request)
			if err != nil || status != 200 || body != "ok\n" && what != "a head" {
				t.Errorf("listener %d, %s: %d %q, %v", at, what, status, body, err)
			}
			n++
		}
	}
	// with the server name of a site as well, where its certificate is shown
	if status, body, err := r.say(0, shop, probes["HAProxy, httpchk"]); status != 200 || body != "ok\n" {
		t.Errorf("with a server name: %d %q, %v", status, body, err)
	}
	c := r.client(0, func(c *tls.Config) { c.InsecureSkipVerify = true })
	resp, err := c.Get("https://127.0.0.1:8443" + probePath)
	check(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("by HTTP/2: %v", resp)
	}
	r.until("they are counted", func() bool { return r.count("lockstep_edge_requests_total") == float64(n+2) })
	if r.log.String() != "" {
		t.Errorf("they are logged: %s", r.log)
	}
}

func TestAProbesConnectionHasNothingElse(t *testing.T) {
	t.Parallel()
	file := clientCA(t, ca(t, "clients"))
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{HealthPath: probePath}, {HealthPath: probePath, ClientCA: file}}
	}, origin(t, "http", seen))
	for at := range 2 {
		for what, request := range nothing {
			if status, body, err := r.say(at, "", request); status != 421 || body != "" {
				t.Errorf("listener %d, %s: %d %q, %v", at, what, status, body, err)
			}
		}
	}
	if status, _, err := r.say(1, shop, nothing["another path"]); err == nil {
		t.Errorf("a client without a certificate: %d", status)
	}
	if status, _, err := r.say(0, "unknown.example", probes["HAProxy, httpchk"]); err == nil {
		t.Errorf("a name without a certificate: %d", status)
	}
	if status, body, err := r.say(0, shop, nothing["another path"]); status != 200 || !strings.Contains(body, shop) {
		t.Errorf("a client of the site: %d, %v", status, err)
	}
	state, err := tls.Dial("tcp", r.addrs[0], &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	check(t, err)
	defer state.Close()
	if got := state.ConnectionState().PeerCertificates[0]; got.Subject.CommonName !=
		"lockstep-edge, for health checks only" || len(got.DNSNames) > 0 {
		t.Errorf("the certificate: %v", got.Subject)
	}
}

// Without a health path, or with a fallback, a probe is a client like any other.
func TestWithoutAHealthPathNothingHasChanged(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{}, {Fallback: shop}, {Fallback: shop, HealthPath: probePath}}
	}, origin(t, "http", seen))
	if status, _, err := r.say(0, "", probes["HAProxy, httpchk"]); err == nil {
		t.Errorf("without a fallback: %d", status)
	}
	if status, _, err := r.say(1, "", probes["HAProxy, httpchk"]); status != 421 {
		t.Errorf("with a fallback: %d, %v", status, err)
	}
	for at := 1; at < 3; at++ {
		if status, _, err := r.say(at, "", nothing["another path"]); status != 200 {
			t.Errorf("listener %d, a site: %d, %v", at, status, err)
		}
	}
	for _, l := range r.proxy.listeners {
		if l.ofProbe(t.Context(), "127.0.0.1") || l.ofProbe(t.Context(), "") {
			t.Errorf("%+v", l.Listener)
		}
	}
}

func TestAnEdgeThatIsNotReadySaysSo(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners[0].HealthPath = probePath }, origin(t, "http", seen))
	r.proxy.listeners[0].ready.Store(false) // as before the first ring
	status, body, err := r.say(0, "", probes["Kubernetes"])
	if status != 503 || !strings.Contains(body, "ticket keys") {
		t.Errorf("%d %q, %v", status, body, err)
	}
	if l := r.lines(1)[0]; l["status"] != 503.0 || l["path"] != probePath {
		t.Errorf("logged: %v", l)
	}
}

func TestAHealthPathIsOneThatProbesCanSend(t *testing.T) {
	for _, path := range []string{"/healthy", probePath, "/.well-known/lockstep"} {
		if err := checkHealthPath(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{"/", "healthy", "*", "//healthy", "/a/../b", "/a?b", "/a#b", "/a%20b", "/a b", "/a;b",
		`/a\b`} {
		if err := checkHealthPath(path); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
