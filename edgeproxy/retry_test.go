package edgeproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// script is an endpoint that does with each request what a test says.
type script struct {
	*testing.T
	url string
	// open says that a request is acted on when the first piece of its body is there.
	open bool
	// act says what to do with request number n of all that were seen, on connection number conn.
	act func(conn, n int) string

	mu    sync.Mutex
	conns []net.Conn
	seen  []string // method and length of the body of each request
}

// scripted starts an endpoint that speaks HTTP/1.1 (http) or HTTP/2 in the clear (h2c).
func scripted(t *testing.T, scheme string, act func(conn, n int) string) *script {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := &script{T: t, url: scheme + "://" + ln.Addr().String(), act: act}
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.conns {
			c.Close()
		}
	})
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			if scheme == "http" {
				go s.http1(c, n)
			} else {
				go s.http2(c, n)
			}
		}
	}()
	return s
}

// next notes a request, and returns what to do with it.
func (s *script) next(conn int, method string, body int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprint(method, " ", body))
	return s.act(conn, len(s.seen)-1)
}

// requests returns what was seen, and forgets it.
func (s *script) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.seen = nil }()
	return s.seen
}

func (s *script) http1(c net.Conn, n int) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		var body []byte
		if s.open {
			body = make([]byte, 5)
			_, err = io.ReadFull(req.Body, body)
		} else {
			body, err = io.ReadAll(req.Body)
		}
		if err != nil {
			return
		}
		switch what := s.next(n, req.Method, len(body)); what {
		case "ok":
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
			if req.Method != http.MethodHead {
				c.Write(body)
			}
		case "close":
			return
		default:
			io.WriteString(c, what)
			return
		}
	}
}

func (s *script) http2(c net.Conn, n int) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	f.WriteWindowUpdate(0, 1<<20)
	var buf bytes.Buffer
	head := hpack.NewEncoder(&buf)
	last, methods, bodies := uint32(0), map[uint32]string{}, map[uint32]int{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		id, ended := frame.Header().StreamID, false
		switch v := frame.(type) {
		case *http2.SettingsFrame:
			if !v.IsAck() {
				f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !v.IsAck() {
				f.WritePing(true, v.Data)
			}
		case *http2.MetaHeadersFrame:
			methods[id], ended = v.PseudoValue("method"), v.StreamEnded()
		case *http2.DataFrame:
			bodies[id] += len(v.Data())
			ended = v.StreamEnded()
		}
		if _, data := frame.(*http2.DataFrame); !ended && !(s.open && data) {
			continue
		}
		what := s.next(n, methods[id], bodies[id])
		code, reset := map[string]http2.ErrCode{
			"refuse": http2.ErrCodeRefusedStream, "protocol": http2.ErrCodeProtocol, "internal": http2.ErrCodeInternal,
			"cancel": http2.ErrCodeCancel,
		}[what]
		switch {
		case reset:
			f.WriteRSTStream(id, code)
		case what == "goaway":
			f.WriteGoAway(last, http2.ErrCodeNo, nil)
		case what == "goaway in anger":
			f.WriteGoAway(last, http2.ErrCodeEnhanceYourCalm, nil)
		case what == "goaway too late":
			f.WriteGoAway(id, http2.ErrCodeNo, nil)
			return
		case what == "close":
			return
		default:
			fields := []string{":status", "200", "x", "y"}
			if what != "ok" {
				fields = strings.Fields(what)
			}
			buf.Reset()
			for i := 0; i < len(fields); i += 2 {
				head.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: buf.Bytes(), EndHeaders: true})
			f.WriteData(id, true, bytes.Repeat([]byte("x"), min(bodies[id], 16<<10)))
			last = id
		}
	}
}

// healthy fails the test if the first endpoint is blamed for anything.
func healthy(r *rig, what string) {
	r.Helper()
	h := &r.proxy.upstreams[0].endpoints[0].health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures > 0 || !h.until.IsZero() {
		r.Errorf("%s: %d failures, out until %v", what, h.failures, h.until)
	}
}

// first does what once for the first request, and answers the others.
func first(what string) func(conn, n int) string {
	return func(_, n int) string {
		if n == 0 {
			return what
		}
		return "ok"
	}
}

func TestWhatAnEndpointHasNotLookedAtIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"goaway", "goaway in anger", "refuse"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{0, 1, 64 << 10} {
				for _, unknown := range []bool{false, true} {
					s := scripted(t, "h2c", first(what))
					r := to(t, nil, s.url)
					var body io.Reader = bytes.NewReader(make([]byte, size))
					if unknown {
						body = io.MultiReader(body) // its length is not sent
					}
					resp, _ := r.do(r.over("h2"), "POST", "/", body)
					want := []string{fmt.Sprint("POST ", size), fmt.Sprint("POST ", size)}
					if got := s.requests(); resp.StatusCode != 200 || !slices.Equal(got, want) {
						t.Errorf("%d bytes: %d, and the endpoint saw %q", size, resp.StatusCode, got)
					}
					healthy(r, what)
				}
			}
			// One endpoint does this to all: the requests go to the other.
			s, up := scripted(t, "h2c", func(int, int) string { return what }), scripted(t, "h2c", first("ok"))
			r := to(t, nil, s.url, up.url)
			c := r.over("h2")
			for range 8 {
				if resp, _ := r.do(c, "POST", "/", strings.NewReader("x")); resp.StatusCode != 200 {
					t.Errorf("another endpoint is there, and yet: %d", resp.StatusCode)
				}
			}
			if got := s.requests(); len(got) > 9 {
				t.Errorf("the endpoint is asked %d times, and out after three failures", len(got))
			}
			// What is too long to be kept is not sent again, and the log says so.
			r = to(t, nil, scripted(t, "h2c", first(what)).url)
			resp, _ := r.do(r.over("h2"), "POST", "/", bytes.NewReader(make([]byte, 100<<10)))
			l := r.lines(1)[0]
			if resp.StatusCode != 502 || !strings.Contains(fmt.Sprint(l["error"]), "more than 64 KiB") {
				t.Errorf("a long body: %d, logged %v", resp.StatusCode, l)
			}
		})
	}
}

// A connection that refuses all streams is left, although it stays open.
func TestARefusedStreamGoesToANewConnection(t *testing.T) {
	t.Parallel()
	s := scripted(t, "h2c", func(conn, _ int) string {
		if conn == 0 {
			return "refuse"
		}
		return "ok"
	})
	r := to(t, nil, s.url)
	for range 5 {
		if resp, _ := r.do(r.over("h2"), "POST", "/", strings.NewReader("x")); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
	}
}

func TestWhatMayHaveBeenDoneIsSentAgainOnlyIfThatDoesNoHarm(t *testing.T) {
	t.Parallel()
	for scheme, ways := range map[string][]string{
		"http": {"close"}, "h2c": {"close", "protocol", "internal", "cancel", "goaway too late"},
	} {
		for _, what := range ways {
			t.Run(scheme+" "+what, func(t *testing.T) {
				t.Parallel()
				for method, again := range map[string]bool{
					"GET": true, "HEAD": true, "OPTIONS": true, "PUT": true, "DELETE": true,
					"POST": false, "PATCH": false, "PROPPATCH": false,
				} {
					for _, body := range []string{"", "some"} {
						if body != "" && (method == "GET" || method == "HEAD") {
							continue
						}
						// The first request is answered. So the second goes over a connection
						// that was used, and the third over a new one.
						s := scripted(t, scheme, func(_, n int) string {
							if n == 1 {
								return what
							}
							return "ok"
						})
						r := to(t, nil, s.url)
						c := r.over("h2")
						r.do(c, "POST", "/", strings.NewReader("first"))
						resp, _ := r.do(c, method, "/", strings.NewReader(body))
						one := fmt.Sprint(method, " ", len(body))
						want, status := []string{"POST 5", one}, 502
						if again {
							want, status = append(want, one), 200
						}
						if got := s.requests(); resp.StatusCode != status || !slices.Equal(got, want) {
							t.Errorf("%s %q: %d, and the endpoint saw %q", method, body, resp.StatusCode, got)
						}
						healthy(r, "an idle connection that ended")
					}
				}
				// On a new connection it is the endpoint that fails.
				s, up := scripted(t, scheme, func(int, int) string { return what }), scripted(t, scheme, first("ok"))
				r := to(t, nil, s.url, up.url)
				c := r.over("h2")
				for range 8 {
					if resp, _ := r.do(c, "GET", "/", nil); resp.StatusCode != 200 {
						t.Errorf("another endpoint is there, and yet: %d", resp.StatusCode)
					}
				}
				if got := s.requests(); len(got) > 5 {
					t.Errorf("it was asked %q", got)
				}
			})
		}
	}
}

// broken is a connection that fails when something is written, once it is told so. Until then
// nobody notices.
type breaking struct {
	net.Conn
	broken *atomic.Bool
}

func (b breaking) Write(p []byte) (int, error) {
	if b.broken.Load() {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return b.Conn.Write(p)
}

func TestARequestOfWhichNothingWasWrittenIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https", "h2c"} {
		for _, size := range []int{0, 1, 30 << 10, 1 << 20} {
			var served atomic.Int64
			up := origin(t, scheme, func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				b, err := io.ReadAll(r.Body)
				fmt.Fprint(w, len(b), err)
			})
			if scheme == "https" { // over HTTP/1.1, where it is the same in TLS
				pair := originPair(t)
				s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					served.Add(1)
					b, err := io.ReadAll(r.Body)
					fmt.Fprint(w, len(b), err)
				}), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
				ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
				check(t, err)
				go s.Serve(ln)
				t.Cleanup(func() { s.Close() })
				up = "https://" + ln.Addr().String()
			}
			r := to(t, nil, up)
			e := r.proxy.upstreams[0].endpoints[0]
			dial := e.links.transport.DialContext
			var broken []*atomic.Bool
			e.links.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				if w, ok := c.(*wire); ok {
					broken = append(broken, new(atomic.Bool))
					w.Conn = breaking{w.Conn, broken[len(broken)-1]}
				}
				return c, err
			}
			c := r.over("http/1.1")
			for n := range 3 {
				if n > 0 && scheme != "h2c" {
					r.until("the connection is free", func() bool {
						e.links.mu.Lock()
						defer e.links.mu.Unlock()
						return len(e.links.free) == 1
					})
					broken[n-1].Store(true)
				}
				resp, got := r.do(c, "POST", "/", bytes.NewReader(make([]byte, size)))
				if resp.StatusCode != 200 || got != fmt.Sprint(size, " <nil>") || served.Load() != int64(n+1) {
					t.Errorf("%s, %d bytes: %d %q, served %d", scheme, size, resp.StatusCode, got, served.Load())
				}
			}
			healthy(r, "a connection that was closed")
		}
	}
}

func TestAResponseThatIsNoneIsThisRequestsFault(t *testing.T) {
	t.Parallel()
	for scheme, all := range map[string][]string{
		"http": {
			"\x15\x03\x01\x00\x02\x02\x28", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n",
			"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "HTTP/1.1 99999 OK\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: zip\r\n\r\n", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 11<<20) + "\r\n\r\n",
		},
		"h2c": {"x y", ":status abc", ":status 099", ":status 1000", ":status -1", ":status 200 Upper y",
			":status 200 :path /"},
	} {
		for _, what := range all {
			t.Run(scheme, func(t *testing.T) {
				t.Parallel()
				s := scripted(t, scheme, func(int, int) string { return what })
				r := to(t, nil, s.url)
				for range 5 {
					if resp, _ := r.do(r.over("h2"), "GET", "/", nil); resp.StatusCode != 502 {
						t.Errorf("%.50q: %d", what, resp.StatusCode)
					}
				}
				if got := s.requests(); len(got) != 5 {
					t.Errorf("%.50q: 5 requests were made %d times", what, len(got))
				}
				healthy(r, fmt.Sprintf("%.50q", what))
			})
		}
	}
}

// A stream whose client waits for an answer is sent again at once, not when the client goes on. It
// also ends at once.
func TestAnOpenStreamDoesNotWaitForItsClient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scheme, what string
		want         int
	}{
		{"h2c", "goaway", 200}, {"h2c", "refuse", 200}, {"h2c", "internal", 502}, {"h2c", "close", 502},
		{"http", "close", 502},
	} {
		s := scripted(t, c.scheme, first(c.what))
		s.open = true
		r := to(t, nil, s.url)
		for _, proto := range protos {
			body, say := io.Pipe()
			go io.WriteString(say, "hello")
			req, err := http.NewRequestWithContext(shortly(t), "POST", "https://"+shop, body)
			check(t, err)
			resp, err := r.over(proto).Do(req)
			check(t, err)
			if resp.StatusCode != c.want {
				t.Errorf("%s to %s, %s: %d", proto, c.scheme, c.what, resp.StatusCode)
			}
			say.Close()
			resp.Body.Close()
			s.requests() // the next one is the first again
		}
	}
}
