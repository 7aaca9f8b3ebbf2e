package edgeproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAnEndpointThatFailsIsLeftOutAndTriedOnce(t *testing.T) {
	t.Parallel()
	var h health
	now := time.Now()
	fail := func(n int) {
		for range n {
			h.note(now, false)
		}
	}
	want := func(what string, may bool) {
		t.Helper()
		if h.take(now) != may {
			t.Errorf("%s: %t", what, !may)
		}
	}
	fail(2)
	want("two failures", true)
	h.note(now, true)
	fail(2)
	want("two failures after a success", true)
	fail(1)
	want("three failures", false)
	now = now.Add(outFor - 1)
	want("just before the time is over", false)
	now = now.Add(1)
	want("the one that tries", true)
	want("another at the same time", false)
	fail(1)
	now = now.Add(outFor - 1)
	want("the try failed", false)
	now = now.Add(1)
	want("the second try", true)
	h.note(now, true)
	want("it came back", true)
	want("for all", true)
}

func TestRequestsAreSpreadOverThoseThatDoNotFail(t *testing.T) {
	t.Parallel()
	var n [3]atomic.Int64
	var ups []string
	for i := range n {
		ups = append(ups, origin(t, "http", func(w http.ResponseWriter, _ *http.Request) {
			n[i].Add(1)
			if i == 0 {
				w.WriteHeader(503)
			}
		}))
	}
	r := to(t, nil, ups...)
	c := r.over("h2")
	for range 30 {
		r.do(c, "GET", "/", nil)
	}
	if n[0].Load() != 3 || n[1].Load() < 10 || n[2].Load() < 10 {
		t.Errorf("requests: %d to the one that fails, %d and %d to the others", n[0].Load(), n[1].Load(), n[2].Load())
	}
	bad := &r.proxy.upstreams[0].endpoints[0].health
	bad.mu.Lock()
	bad.until = time.Now() // the ten seconds are over
	bad.mu.Unlock()
	var g sync.WaitGroup
	for range 20 {
		g.Go(func() { r.do(c, "GET", "/", nil) })
	}
	g.Wait()
	if n[0].Load() != 4 {
		t.Errorf("%d requests tried it, not one", n[0].Load()-3)
	}
}

// nowhereAt is an address that refuses connections.
func nowhereAt(t *testing.T, scheme string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer ln.Close()
	return scheme + "://" + ln.Addr().String()
}

// hangup is an address that ends every connection after it has read from the first request or
// handshake, and counts them.
func hangup(t *testing.T, scheme string) (string, *atomic.Int64) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { ln.Close() })
	n := new(atomic.Int64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			// More than an HTTP/2 connection begins with, and less than a request or a ClientHello.
			io.ReadAtLeast(c, make([]byte, 1<<10), 90)
			c.Close()
		}
	}()
	return scheme + "://" + ln.Addr().String(), n
}

func TestARequestGoesToAnotherEndpointOnlyWhereNothingWasSent(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			var served atomic.Int64
			up := origin(t, scheme, func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				b, err := io.ReadAll(r.Body)
				fmt.Fprint(w, len(b), err)
			})
			r := to(t, nil, nowhereAt(t, scheme), up, nowhereAt(t, scheme))
			for range 9 {
				body := io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)))
				if resp, got := r.do(r.over("h2"), "POST", "/", body); resp.StatusCode != 200 ||
					got != "100000 <nil>" {
					t.Errorf("one endpoint of three listens: %d %q", resp.StatusCode, got)
				}
			}
			served.Store(0)
			mute, n := hangup(t, scheme)
			r = to(t, nil, mute, up)
			for range 8 {
				r.do(r.over("h2"), "POST", "/", strings.NewReader("x"))
			}
			// a TLS handshake that fails has sent nothing
			if want := map[bool]int64{true: 8, false: 5}[scheme == "https"]; served.Load() != want || n.Load() != 3 {
				t.Errorf("%d requests came to the endpoint that hangs up, %d of 8 (not %d) to the other", n.Load(),
					served.Load(), want)
			}
		})
	}
}

func TestAnUpstreamThatDiesLeavesNoWholeBody(t *testing.T) {
	t.Parallel()
	everyWay(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "100000")
		}
		w.Write(make([]byte, 50_000))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, r *rig, c *http.Client) {
		for i, path := range []string{"/sized", "/chunked"} {
			resp, err := c.Get("https://" + shop + path)
			check(t, err)
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err == nil || resp.StatusCode != 200 {
				t.Errorf("%s: %d, and a body of %d bytes that ends well", path, resp.StatusCode, n)
			}
			if l := r.lines(i + 1)[i]; l["error"] != errCutShort.Error() || l["status"] != 200.0 {
				t.Errorf("%s: logged %v", path, l)
			}
		}
	})
}

func TestAnUpstreamThatIsSlowOrGone(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := origin(t, "http", func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	r := to(t, func(c *Config) {
		c.Timeouts.UpstreamHeader = 100 * time.Millisecond
		c.Routes = []Route{
			{Host: "*", Path: "/", Upstreams: []string{nowhereAt(t, "http"), nowhereAt(t, "http")}},
			{Host: "*", Path: "/slow", Upstreams: []string{slow}},
		}
	}, "http://")
	for _, proto := range protos {
		c := r.over(proto)
		for range 5 { // also when it is out, since there is no other
			if resp, _ := r.do(c, "GET", "/slow", nil); resp.StatusCode != 504 {
				t.Errorf("slow: %d", resp.StatusCode)
			}
		}
		start := time.Now()
		for range 10 {
			if resp, _ := r.do(c, "POST", "/", strings.NewReader("x")); resp.StatusCode != 502 {
				t.Errorf("gone: %d", resp.StatusCode)
			}
		}
		t.Logf("%s: ten answers that nobody listens took %v", proto, time.Since(start))
	}
}

// What clients do wrong must not take endpoints out.
func TestNoClientCanMakeAnEndpointFail(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			r := to(t, short, origin(t, scheme,
				func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
			blameless := func(what string) {
				t.Helper()
				h := &r.proxy.upstreams[0].endpoints[0].health
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.failures > 0 || !h.until.IsZero() {
					t.Errorf("%s: %d failures, out until %v", what, h.failures, h.until)
				}
			}
			for head, want := range map[string]int{
				"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100\r\n\r\nthen silence":               408,
				"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\nno chunk at all\r\n": 400,
				"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\nUpgrade: anything\r\n\r\n":       200,
			} {
				for range 2 {
					c := r.dial(shop, "http/1.1")
					io.WriteString(c, head)
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					check(t, err)
					resp.Body.Close()
					if c.Close(); resp.StatusCode != want {
						t.Errorf("%q: %d, not %d", head, resp.StatusCode, want)
					}
				}
				blameless(head)
			}
			for range 2 {
				c := r.dial(shop, "http/1.1")
				io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100\r\n\r\nthen nobody")
				c.Close()
				f := r.raw()
				f.request(1, false, ":method", "POST")
				check(t, f.WriteData(1, false, []byte("x")))
				check(t, f.WriteRSTStream(1, 8))
				f.request(3, false, ":method", "POST", "content-length", "100")
				check(t, f.WriteData(3, false, []byte("x")))
				if got := f.status(3); got != "408" {
					t.Errorf("HTTP/2, half a body: %s", got)
				}
				f.conn.Close()
			}
			blameless("clients that leave, or stop")
		})
	}
}

// Client_ca and upstream_ca take the same files.
func TestTheCAOfUpstreamsIsReadAsPeopleHaveIt(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(originCA(t))
	check(t, err)
	for what, change := range map[string]func(string) string{
		"a byte order mark": func(s string) string { return "\uFEFF" + s },
		"another label":     func(s string) string { return strings.ReplaceAll(s, "CERTIFICATE", "X509 CERTIFICATE") },
		"it stands twice":   func(s string) string { return s + s },
		"line breaks":       func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
	} {
		file := filepath.Join(t.TempDir(), "ca.pem")
		check(t, os.WriteFile(file, []byte(change(string(text))), 0o600))
		r := to(t, func(c *Config) { c.Routes[0].UpstreamCA = file }, origin(t, "https", empty))
		if resp, _ := r.do(r.over("h2"), "GET", "/", nil); resp.StatusCode != 200 {
			t.Errorf("%s: %s", what, resp.Status)
		}
	}
}
