package edgeproxy

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// stream makes a request whose client sends one piece of its body and waits. It returns the status
// and the body of the response.
func stream(r *rig, proto, path string, length int64) (int, string) {
	r.Helper()
	body, say := io.Pipe()
	defer say.Close()
	go io.WriteString(say, "hello")
	req, err := http.NewRequestWithContext(shortly(r.TB), "POST", "https://"+shop+path, body)
	check(r.TB, err)
	req.ContentLength = length
	resp, err := r.over(proto).Do(req)
	check(r.TB, err)
	defer resp.Body.Close()
	say.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestASilentUpstreamIsNotItsClientsFault(t *testing.T) {
	t.Parallel()
	const body, long = 200 * time.Millisecond, 800 * time.Millisecond
	h := func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		b := make([]byte, 5)
		n, err := io.ReadFull(r.Body, b)
		select {
		case <-time.After(long):
		case <-r.Context().Done():
			return
		}
		fmt.Fprint(w, string(b[:n]), err)
	}
	for _, scheme := range []string{"http", "h2c"} {
		for _, proto := range protos {
			t.Run(proto+" to "+scheme, func(t *testing.T) {
				t.Parallel()
				up := origin(t, scheme, h)
				r := to(t, func(c *Config) {
					c.Timeouts.Body = body
					c.Routes = []Route{
						{Host: "*", Path: "/", Upstreams: []string{up}},
						{Host: "*", Path: "/short", Upstreams: []string{up}, UpstreamHeader: body},
						{Host: "*", Path: "/patient", Upstreams: []string{up}, UpstreamHeader: body, Body: 4 * long},
					}
				}, up)
				if status, got := stream(r, proto, "/", -1); status != 200 || got != "hello<nil>" {
					t.Errorf("the answer comes after %v, and bodies have %v: %d %q", long, body, status, got)
				}
				// The client owes the rest of a body whose length it has said.
				if status, _ := stream(r, proto, "/", 10); status != 408 {
					t.Errorf("half a body: %d", status)
				}
				if status, _ := stream(r, proto, "/patient", 10); status != 200 {
					t.Errorf("half a body, on a route where it has %v: %d", 4*long, status)
				}
				for range 4 { // as often as would take the endpoint out
					if status, _ := stream(r, proto, "/short", -1); status != 504 {
						t.Errorf("both are silent for longer than upstream_header: %d", status)
					}
				}
				l := r.lines(4)
				if e := l[len(l)-1]["error"]; e != errBothSilent.Error() {
					t.Errorf("logged: %v", e)
				}
				for i := range r.proxy.upstreams {
					if h := &r.proxy.upstreams[i].endpoints[0].health; h.failures > 0 {
						t.Errorf("route %d: %d failures", i, h.failures)
					}
				}
				// A request that is whole: the upstream alone is silent.
				if resp, _ := r.do(r.over(proto), "GET", "/short", nil); resp.StatusCode != 504 {
					t.Errorf("a whole request: %d", resp.StatusCode)
				}
				if resp, _ := r.do(r.over(proto), "GET", "/", nil); resp.StatusCode != 200 {
					t.Errorf("a whole request, where there is time: %d", resp.StatusCode)
				}
			})
		}
	}
}

func TestAnUpstreamThatTakesNothingIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c"} {
		for _, proto := range protos {
			t.Run(proto+" to "+scheme, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				up := origin(t, scheme, func(w http.ResponseWriter, r *http.Request) {
					select {
					case <-release:
					case <-r.Context().Done():
					}
				})
				defer close(release)
				r := to(t, func(c *Config) { c.Timeouts.UpstreamHeader = 300 * time.Millisecond }, up)
				body, say := io.Pipe()
				go func() { // until nobody reads
					var err error
					for piece := make([]byte, 64<<10); err == nil; {
						_, err = say.Write(piece)
					}
				}()
				req, err := http.NewRequestWithContext(shortly(t), "POST", "https://"+shop, body)
				check(t, err)
				resp, err := r.over(proto).Do(req)
				check(t, err)
				resp.Body.Close()
				say.Close()
				if l := r.lines(1)[0]; resp.StatusCode != 504 {
					t.Errorf("%d, logged %v", resp.StatusCode, l)
				}
				h := &r.proxy.upstreams[0].endpoints[0].health
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.failures != 1 {
					t.Errorf("it counts as %d failures of the endpoint", h.failures)
				}
			})
		}
	}
}
