package edgeproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// counting starts an upstream, and returns its URL, and how many connections were made to it and
// are open.
func counting(t *testing.T, scheme string, h http.HandlerFunc) (url string, made, open *atomic.Int64) {
	t.Helper()
	made, open = new(atomic.Int64), new(atomic.Int64)
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			made.Add(1)
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}}
	s.Protocols.SetHTTP1(scheme == "http")
	s.Protocols.SetUnencryptedHTTP2(scheme == "h2c")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return scheme + "://" + ln.Addr().String(), made, open
}

func TestConnectionsAreUsedAgainUntilTheyWereIdleForTooLong(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c"} {
		for what, c := range map[string]struct {
			all, route time.Duration
			header     string
		}{
			"timeouts":            {400 * time.Millisecond, 0, ""},
			"the route's":         {time.Hour, 400 * time.Millisecond, ""},
			"the upstream's word": {time.Hour, 0, "timeout=1, max=100"},
		} {
			if c.header != "" && scheme != "http" {
				continue // HTTP/2 has no such header
			}
			t.Run(scheme+", "+what, func(t *testing.T) {
				t.Parallel()
				up, made, open := counting(t, scheme, func(w http.ResponseWriter, r *http.Request) {
					if c.header != "" {
						w.Header().Set("Keep-Alive", c.header)
					}
				})
				r := to(t, func(f *Config) { f.Timeouts.UpstreamIdle, f.Routes[0].UpstreamIdle = c.all, c.route }, up)
				client := r.over("h2")
				for range 10 {
					r.do(client, "GET", "/", nil)
				}
				if made.Load() > 3 { // a loaded machine pauses
					t.Errorf("ten requests took %d connections", made.Load())
				}
				r.until("it is closed", func() bool { return open.Load() == 0 })
				if resp, _ := r.do(client, "POST", "/", strings.NewReader("x")); resp.StatusCode != 200 {
					t.Errorf("%d", resp.StatusCode)
				}
			})
		}
	}
}

// An endpoint, or a firewall before it, gives up connections that were idle for a second. The edge
// learns of it from the end of the next request, which may have been done.
func TestAnIdleTimeBelowTheEndpointsSavesPosts(t *testing.T) {
	t.Parallel()
	const given, spaced = time.Second, 1100 * time.Millisecond
	for idle, want := range map[time.Duration][]int{
		250 * time.Millisecond: {200, 200, 200, 200}, time.Hour: {200, 502, 200, 502},
	} {
		t.Run(idle.String(), func(t *testing.T) {
			t.Parallel()
			last := map[int]time.Time{}
			s := scripted(t, "http", func(conn, _ int) string {
				before := last[conn]
				if last[conn] = time.Now(); !before.IsZero() && time.Since(before) > given {
					return "close"
				}
				return "ok"
			})
			r := to(t, func(c *Config) { c.Timeouts.UpstreamIdle = idle }, s.url)
			var got []int
			for range want {
				resp, _ := r.do(r.over("http/1.1"), "POST", "/", strings.NewReader("x"))
				got = append(got, resp.StatusCode)
				time.Sleep(spaced)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v, not %v", got, want)
			}
			healthy(r, "an idle time that is too long")
		})
	}
}

func TestManyRequestsAtOnceShareOneConnectionOfHTTP2(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var waiting atomic.Int64
	up, made, _ := counting(t, "h2c", func(http.ResponseWriter, *http.Request) {
		waiting.Add(1)
		<-release
	})
	r := to(t, nil, up)
	c := r.over("h2")
	var g sync.WaitGroup
	for range 80 {
		g.Go(func() { r.do(c, "GET", "/", nil) })
	}
	r.until("all have arrived", func() bool { return waiting.Load() == 80 })
	close(release)
	g.Wait()
	if made.Load() > 2 {
		t.Errorf("80 requests took %d connections", made.Load())
	}
}

func TestMoreRequestsThanAConnectionTakesMakeAnother(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var waiting atomic.Int64
	s := &http.Server{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 3},
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			waiting.Add(1)
			<-release
		})}
	s.Protocols.SetUnencryptedHTTP2(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	r := to(t, nil, "h2c://"+ln.Addr().String())
	c := r.over("h2")
	p := r.proxy.upstreams[0].endpoints[0].links
	known := func() bool { // before that a connection takes a hundred
		p.mu.Lock()
		defer p.mu.Unlock()
		for l := range p.all {
			if l.Available() > 2 {
				return false
			}
		}
		return true
	}
	var g sync.WaitGroup
	for n := range int64(10) {
		g.Go(func() {
			if resp, _ := r.do(c, "POST", "/", strings.NewReader("x")); resp.StatusCode != 200 {
				t.Errorf("%d", resp.StatusCode)
			}
		})
		r.until("it has arrived", func() bool { return waiting.Load() == n+1 })
		r.until("the endpoint's settings are known", known)
	}
	close(release)
	g.Wait()
}

// A client that leaves must not leave a connect behind, which takes upstream_dial.
func TestAClientThatLeavesEndsTheConnectThatWasMadeForIt(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c"} {
		r := to(t, nil, scheme+"://127.0.0.1:1")
		e := r.proxy.upstreams[0].endpoints[0]
		begun, ended := make(chan struct{}), make(chan struct{})
		e.links.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			close(begun)
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(shortly(t))
		req, err := http.NewRequestWithContext(ctx, "GET", "https://"+shop, nil)
		check(t, err)
		go func() {
			<-begun
			cancel()
		}()
		if _, err := r.over("h2").Do(req); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the connect goes on", scheme)
		}
		healthy(r, scheme)
	}
}

// upstreamOf starts an https upstream with a certificate of ca for name. It answers with the server
// name that it was asked for, and with the client that it saw. It demands one if there are clients.
func upstreamOf(t *testing.T, ca *fleet.CA, name string, clients *fleet.CA, http2 bool) string {
	t.Helper()
	pair, err := ca.Issue(fleet.Leaf{Names: []string{name}})
	check(t, err)
	cert, err := tls.X509KeyPair(pair.Chain, pair.Key)
	check(t, err)
	c := &tls.Config{Certificates: []tls.Certificate{cert}}
	if clients != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
	}
	s := &http.Server{TLSConfig: c, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.Proto, " ", r.Host, " ", r.TLS.ServerName)
			for _, p := range r.TLS.PeerCertificates {
				fmt.Fprint(w, " ", p.DNSNames)
			}
		})}
	s.Protocols.SetHTTP1(!http2)
	s.Protocols.SetHTTP2(http2)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go s.ServeTLS(ln, "", "")
	t.Cleanup(func() { s.Close() })
	return "https://" + ln.Addr().String()
}

func TestAnUpstreamByAddressIsKnownByItsName(t *testing.T) {
	t.Parallel()
	of := ca(t, "upstreams")
	for _, http2 := range []bool{false, true} {
		up := upstreamOf(t, of, "backend.internal", nil, http2)
		for name, want := range map[string]int{
			"": 502, "backend.internal": 200, "other.internal": 502, "127.0.0.1": 502,
		} {
			r := to(t, func(c *Config) { c.Routes[0].UpstreamCA, c.Routes[0].UpstreamName = clientCA(t, of), name }, up)
			resp, got := r.do(r.over("h2"), "GET", "/", nil)
			if resp.StatusCode != want {
				t.Errorf("%q: %d", name, resp.StatusCode)
			}
			if e := fmt.Sprint(r.lines(1)[0]["error"]); want != 200 && !strings.Contains(e,
				`["backend.internal"] to the route as upstream_name`) {
				t.Errorf("%q: logged %s", name, e)
			}
			proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
			if want == 200 && got != proto+" shop.example backend.internal" {
				t.Errorf("%q: the upstream was asked for %q", name, got)
			}
		}
	}
	var wrong x509.HostnameError
	for want, c := range map[string]x509.Certificate{
		`["192.0.2.1"] to the route as upstream_name`: {IPAddresses: []net.IP{{192, 0, 2, 1}}},
		"have it issued with one":                     {URIs: []*url.URL{{Scheme: "spiffe", Host: "t"}}},
	} {
		wrong.Certificate = &c
		if err := hint(wrong); !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// A certificate for the address.
	r := to(t, func(c *Config) { c.Routes[0].UpstreamName = "127.0.0.1" }, origin(t, "https", seen))
	if resp, _ := r.do(r.over("h2"), "GET", "/", nil); resp.StatusCode != 200 {
		t.Errorf("an address as a name: %d", resp.StatusCode)
	}
}

func TestUpstreamsAreShownACertificateThatIsRenewedMeanwhile(t *testing.T) {
	t.Parallel()
	of, edges := ca(t, "upstreams"), ca(t, "edges")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write := func(name string) {
		pair, err := edges.Issue(fleet.Leaf{Names: []string{name}})
		check(t, err)
		check(t, os.WriteFile(cert, pair.Chain, 0o600))
		check(t, os.WriteFile(key, pair.Key, 0o600))
	}
	write("first.edge")
	up := upstreamOf(t, of, "backend.internal", edges, false)
	r := to(t, func(c *Config) {
		c.Routes[0].UpstreamCA, c.Routes[0].UpstreamName = clientCA(t, of), "backend.internal"
		c.Routes[0].UpstreamCert, c.Routes[0].UpstreamKey = cert, key
	}, up)
	e := r.proxy.upstreams[0].endpoints[0]
	want := func(what, name string) {
		t.Helper()
		resp, got := r.do(r.over("h2"), "GET", "/", nil)
		if resp.StatusCode != 200 || !strings.HasSuffix(got, "["+name+"]") {
			t.Errorf("%s: %d %q", what, resp.StatusCode, got)
		}
		e.links.close() // the next request makes a connection
	}
	want("at the start", "first.edge")
	write("second.edge")
	want("renewed", "second.edge")
	check(t, os.WriteFile(cert, []byte("half of"), 0o600))
	want("half written", "second.edge")
	check(t, os.Remove(cert))
	want("taken away", "second.edge")
	write("third.edge")
	want("renewed again", "third.edge")

	r = to(t, func(c *Config) {
		c.Routes[0].UpstreamCA, c.Routes[0].UpstreamName = clientCA(t, of), "backend.internal"
	}, up)
	if resp, _ := r.do(r.over("h2"), "GET", "/", nil); resp.StatusCode != 502 {
		t.Errorf("without a certificate: %d", resp.StatusCode)
	}
}

func TestARouteWhoseUpstreamsCannotBeReachedSoIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "none.pem"), nil, 0o600))
	for want, change := range map[string]func(*Route){
		"upstream_name: none of the upstreams is https://": func(r *Route) {
			r.Upstreams, r.UpstreamName = []string{"http://127.0.0.1:1"}, "a.example"
		},
		"upstream_cert: none of the upstreams is https://": func(r *Route) {
			r.Upstreams, r.UpstreamCert, r.UpstreamKey = []string{"h2c://127.0.0.1:1"}, "a", "b"
		},
		"upstream_cert and upstream_key go together": func(r *Route) { r.UpstreamKey = "b" },
		"upstream_name: not a server name":           func(r *Route) { r.UpstreamName = "a b" },
		"\"*.a.example\" is a pattern":               func(r *Route) { r.UpstreamName = "*.a.example" },
		"body: -1s is not between":                   func(r *Route) { r.Body = -time.Second },
		"upstream_dial: 25h0m0s is not between":      func(r *Route) { r.UpstreamDial = 25 * time.Hour },
		"upstream_cert and upstream_key: open ": func(r *Route) {
			r.UpstreamCert, r.UpstreamKey = filepath.Join(dir, "missing.pem"), filepath.Join(dir, "none.pem")
		},
		"upstream_cert and upstream_key: tls: failed to find": func(r *Route) {
			r.UpstreamCert, r.UpstreamKey = filepath.Join(dir, "none.pem"), filepath.Join(dir, "none.pem")
		},
	} {
		c := Config{Listeners: []Listener{{Address: ":1", Scope: "default", MinVersion: "1.2"}},
			Routes: []Route{{Host: "*", Path: "/", Upstreams: []string{"https://127.0.0.1:1"}}},
			Limits: DefaultLimits(), Timeouts: DefaultTimeouts()}
		check(t, c.Check())
		change(&c.Routes[0])
		faults := append(c.Faults(), c.FileFaults()...)
		if len(faults) == 0 || !errors.Is(faults[0], ErrBadConfig) || !strings.Contains(faults[0].Error(), want) ||
			!strings.Contains(faults[0].Error(), "routes[0]: ") {
			t.Errorf("%v, not %s", faults, want)
		}
	}
}
