package edgeproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// Whatever net/http answers without asking the proxy is logged and counted as other requests are.
func TestWhatNetHTTPRefusesIsLoggedAndCounted(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20<<10)
	for what, c := range map[string]struct {
		request             string
		status              int
		method, path, proto string
		words               string
	}{
		"noise":      {"\x00\xff\xfe\r\n\r\n", 400, "", "", "", "malformed"},
		"no version": {"GET /a\r\n\r\n", 400, "GET", "/a", "", "malformed"},
		"no Host": {"GET /a?secret HTTP/1.1\r\n\r\n", 400, "GET", "/a", "HTTP/1.1",
			"missing required Host header"},
		"two Hosts": {"GET /a HTTP/1.1\r\nHost: shop.example\r\nHost: shop.example\r\n\r\n", 400,
			"GET", "/a", "HTTP/1.1", "malformed"},
		"a bad Host": {"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "GET", "/a", "HTTP/1.1",
			"malformed Host header"},
		"a line without a colon": {"GET /a HTTP/1.1\r\nHost: shop.example\r\nx\r\n\r\n", 400, "GET", "/a",
			"HTTP/1.1", "malformed"},
		"a bad method": {"G@T /a HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400, "G@T", "/a",
			"HTTP/1.1", "malformed"},
		"a bad target": {"GET a?secret HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400, "GET", "a",
			"HTTP/1.1", "malformed"},
		"an old version": {"GET /a HTTP/0.9\r\nHost: shop.example\r\n\r\n", 505, "GET", "/a",
			"HTTP/0.9", "neither 1.0 nor 1.1"},
		"a new version": {"GET /a HTTP/3.0\r\nHost: shop.example\r\n\r\n", 505, "GET", "/a",
			"HTTP/3.0", "neither 1.0 nor 1.1"},
		"another expectation": {"GET /a HTTP/1.1\r\nHost: shop.example\r\nExpect: x\r\n\r\n", 417, "GET",
			"/a", "HTTP/1.1", "100-continue"},
		"another coding": {"POST /a HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: gzip\r\n\r\nsecret",
			501, "POST", "/a", "HTTP/1.1", "chunked alone"},
		"a large header": {"GET /a HTTP/1.1\r\nHost: shop.example\r\nX: " + long + "\r\n\r\n", 431,
			"GET", "/a", "HTTP/1.1", "limits.header_bytes"},
		"a large line": {"GET /a" + long, 431, "GET", "/a" + long[:lineKept-6], "",
			"limits.header_bytes"},
		"all": {"OPTIONS * HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n", 200, "OPTIONS", "*",
			"HTTP/1.1", ""},
	} {
		for _, first := range []string{"", "GET /first HTTP/1.1\r\nHost: shop.example\r\n\r\n"} {
			t.Run(what+fmt.Sprint(len(first)), func(t *testing.T) {
				t.Parallel()
				r := to(t, func(c *Config) { c.Limits.HeaderBytes = 8 << 10 },
					origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
				got := answers(r, first+c.request, 0)
				n := len(got)
				if n == 0 || got[n-1] != c.status {
					t.Fatalf("it is answered with %d, not %d", got, c.status)
				}
				line := r.lines(n)[n-1]
				for k, v := range map[string]any{
					"method": c.method, "path": c.path, "proto": c.proto, "status": float64(c.status), "host": shop,
					"tls": "TLS 1.3", "msg": "request",
				} {
					if line[k] != v {
						t.Errorf("%s is %q, not %q", k, line[k], v)
					}
				}
				if text := fmt.Sprint(line["error"]); c.words != "" && !strings.Contains(text, c.words) {
					t.Errorf("the error is %q, not %q", text, c.words)
				}
				if remote := fmt.Sprint(line["remote"]); !strings.HasPrefix(remote, "127.0.0.1:") {
					t.Errorf("the client is %q", remote)
				}
				if strings.Contains(r.log.String(), "secret") || strings.Count(r.log.String(), "\n") != n {
					t.Errorf("%s", r.log.String())
				}
				if counted := r.count("lockstep_edge_requests_total"); counted != float64(n) {
					t.Errorf("%v requests are counted, of %d", counted, n)
				}
			})
		}
	}
}

func TestWhatIsRefusedOverHTTP2IsLoggedAndCounted(t *testing.T) {
	t.Parallel()
	fields := func(all ...string) func(*raw) string {
		return func(f *raw) string {
			f.request(1, true, all...)
			return f.status(1)
		}
	}
	for what, c := range map[string]struct {
		make   func(*raw) string
		client string // client is what the client sees.
		status float64
		words  string
	}{
		"a large header": {fields("x", strings.Repeat("~", 4<<10), "y", strings.Repeat("~", 5<<10)), "431", 431, ""},
		"no path":        {fields(":path", ""), "PROTOCOL_ERROR", 400, "pseudo-header"},
		"no method":      {fields(":method", ""), "PROTOCOL_ERROR", 400, "pseudo-header"},
		"another scheme": {fields(":scheme", "ftp"), "PROTOCOL_ERROR", 400, "scheme"},
		"a bad path":     {fields(":path", "%"), "PROTOCOL_ERROR", 400, "path is malformed"},
		"CONNECT":        {fields(":method", "CONNECT"), "PROTOCOL_ERROR", 400, "CONNECT"},
		"all":            {fields(":method", "OPTIONS", ":path", "*"), "200", 200, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := to(t, func(c *Config) { c.Limits.HeaderBytes = 8 << 10 },
				origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
			if got := c.make(r.raw()); got != c.client {
				t.Fatalf("the client sees %s, not %s", got, c.client)
			}
			line := r.lines(1)[0]
			if line["status"] != c.status || line["proto"] != "HTTP/2.0" ||
				c.words != "" && !strings.Contains(fmt.Sprint(line["error"]), c.words) {
				t.Errorf("it is logged as %v", line)
			}
			if n := r.count("lockstep_edge_requests_total"); n != 1 {
				t.Errorf("%v requests are counted", n)
			}
		})
	}
}

// informing is an origin that sends responses with these statuses before the last one.
func informing(t *testing.T, statuses ...int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					for _, s := range statuses {
						fmt.Fprintf(c, "HTTP/1.1 %d X\r\nLink: </a.css>\r\n\r\n", s)
					}
					b := fmt.Sprint(req.Header["Expect"], req.Header["Upgrade"], req.Header["Connection"])
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

func TestAClientOfHTTP10SeesOneResponse(t *testing.T) {
	t.Parallel()
	r := to(t, nil, informing(t, 100, 102, 103, 110))
	for _, c := range []struct {
		proto, fields string
		want          string
	}{
		{"1.0", "", "[200]"},
		{"1.0", "Connection: keep-alive\r\n", "[200]"},
		{"1.0", "Expect: 100-continue\r\n", "[200]"},
		{"1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", "[200]"},
		{"1.1", "Connection: close\r\n", "[100 102 103 110 200]"},
	} {
		conn := r.dial(shop, "http/1.1")
		fmt.Fprintf(conn, "GET / HTTP/%s\r\nHost: shop.example\r\n%s\r\n", c.proto, c.fields)
		in, got := bufio.NewReader(conn), []int{}
		for {
			resp, err := http.ReadResponse(in, nil)
			check(t, err)
			got = append(got, resp.StatusCode)
			if resp.StatusCode == 200 {
				body, err := io.ReadAll(resp.Body)
				check(t, err)
				if c.proto == "1.0" && string(body) != "[] [] []" {
					t.Errorf("%+v: the upstream is sent %s", c, body)
				}
				if resp.Header.Get("Link") != "" {
					t.Errorf("%+v: the last response has a field of the first one: %v", c, resp.Header)
				}
				break
			}
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	f := r.raw()
	f.request(1, true)
	for _, want := range []string{"100", "102", "103", "110", "200"} {
		if got := f.status(1); got != want {
			t.Errorf("HTTP/2: %s, not %s", got, want)
		}
	}
	f.await(func(fr http2.Frame) bool {
		return fr.Header().StreamID == 1 && fr.Header().Flags.Has(http2.FlagDataEndStream)
	})
}
