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
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestAHeaderThatIsTooLarge(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Limits.HeaderBytes = 8 << 10 },
		origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	for size, want := range map[int]string{4 << 10: "200", 13 << 10: "431"} {
		c := r.dial(shop, "http/1.1")
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: shop.example\r\nX: %s\r\n\r\n", strings.Repeat("x", size))
		if got, _ := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%d bytes over HTTP/1.1: %q, not %s", size, got, want)
		}
		f := r.raw()
		// net/http closes the connection where one value is too long
		f.request(1, true, "x", strings.Repeat("~", size/2), "y", strings.Repeat("~", size/2))
		if got := f.status(1); got != want {
			t.Errorf("%d bytes over HTTP/2: %s, not %s", size, got, want)
		}
	}
}

func TestStreamsOfAConnectionAreLimited(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Limits.Streams = 2 },
		origin(t, "http", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	f := r.raw()
	f.await(func(fr http2.Frame) bool {
		s, ok := fr.(*http2.SettingsFrame)
		if !ok {
			return false
		}
		if v, _ := s.Value(http2.SettingMaxConcurrentStreams); v != 2 {
			t.Errorf("%d streams are offered", v)
		}
		return true
	})
	f.await(func(fr http2.Frame) bool { s, ok := fr.(*http2.SettingsFrame); return ok && s.IsAck() })
	for i := range 3 {
		f.request(uint32(2*i+1), true)
	}
	if got := f.status(5); got != "REFUSED_STREAM" && got != "PROTOCOL_ERROR" {
		t.Errorf("the third: %s", got)
	}
	if line := r.lines(1)[0]; line["status"] != 429.0 || r.labelled("lockstep_edge_requests_total", "429") != 1 {
		t.Errorf("the third is logged as %v", line)
	}
}

func TestConnectionsOfAListenerAreLimited(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners[0].Connections = 2 }, "http://127.0.0.1:1")
	first := r.dial(shop, "http/1.1")
	r.dial(shop, "h2")
	third := make(chan error, 1)
	go func() {
		c, err := tls.Dial("tcp", r.addrs[0], &tls.Config{ServerName: shop, RootCAs: r.ca.Pool()})
		if err == nil {
			c.Close()
		}
		third <- err
	}()
	select {
	case err := <-third:
		t.Fatalf("a third connection beside the two that may be: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	first.Close()
	select {
	case err := <-third:
		check(t, err)
	case <-time.After(20 * time.Second):
		t.Error("the third is not let in when the first is gone")
	}
}

// What is kept of bodies is counted for each connection, whatever a listener demands.
func TestEveryListenerCountsWhatAConnectionKeeps(t *testing.T) {
	t.Parallel()
	own := ca(t, "clients")
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{}, {ProxyProtocol: []string{"10.0.0.0/8"}}, {ClientCA: clientCA(t, own)}}
	}, origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	for i, l := range r.proxy.listeners {
		var counts []any
		next := l.http1.Handler
		l.http1.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			counts = append(counts, r.Context().Value(keptKey{}))
			next.ServeHTTP(w, r)
		})
		c := r.client(i, func(c *tls.Config) { c.Certificates = []tls.Certificate{person(t, own, "alice.example")} })
		c.Transport.(*http.Transport).Protocols = new(http.Protocols)
		c.Transport.(*http.Transport).Protocols.SetHTTP1(true)
		r.do(c, "GET", "/", nil)
		r.do(c, "GET", "/", nil)
		if len(counts) != 2 || counts[0] == nil || counts[0] != counts[1] {
			t.Errorf("listener %d: %v", i, counts)
		}
	}
}

// Sixty streams whose responses nobody reads hold some hundred KiB each, of which half is the
// origin's, in the same process.
func TestResponsesThatNobodyReadsAreHeldInSmallPart(t *testing.T) {
	const streams, most = 60, 512 << 10
	for _, scheme := range []string{"http", "h2c", "https"} {
		var served atomic.Int64
		piece := make([]byte, 64<<10)
		r := to(t, nil, origin(t, scheme, func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			for r.Context().Err() == nil {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		}))
		before := heap()
		f := r.raw(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		for i := range uint32(streams) {
			f.request(2*i+1, true)
		}
		r.until("all streams are served", func() bool { return served.Load() == streams })
		held, since := heap()-before, time.Now()
		for time.Since(since) < 400*time.Millisecond { // until it no longer grows
			time.Sleep(50 * time.Millisecond)
			if now := heap() - before; now > held+1<<20 {
				held, since = now, time.Now()
			}
		}
		t.Logf("%s: %d KiB a stream", scheme, held>>10/streams)
		if held > streams*most {
			t.Errorf("%s: %d streams hold %d KiB", scheme, streams, held>>10)
		}
		f.conn.Close()
		r.stop()
	}
}

// What clients send and no upstream takes stays with the clients, but for some hundred KiB. Here
// they are in the same process, and so is the origin. To an endpoint that takes large frames,
// net/http has a buffer of 512 KiB for each stream.
func TestBodiesThatNoUpstreamTakesAreHeldInSmallPart(t *testing.T) {
	const streams = 60
	for scheme, most := range map[string]int64{"http": 512 << 10, "h2c": 1 << 20} {
		var served atomic.Int64
		release := make(chan struct{})
		r := to(t, nil, origin(t, scheme, func(http.ResponseWriter, *http.Request) {
			served.Add(1)
			<-release
		}))
		before := heap()
		c := r.over("h2")
		ctx, cancel := context.WithCancel(shortly(t))
		for range streams {
			req, err := http.NewRequestWithContext(ctx, "POST", "https://"+shop, &endless{})
			check(t, err)
			go c.Do(req)
		}
		r.until("all streams are served", func() bool { return served.Load() == streams })
		held, since := heap()-before, time.Now()
		for time.Since(since) < 400*time.Millisecond { // until it no longer grows
			time.Sleep(50 * time.Millisecond)
			if now := heap() - before; now > held+1<<20 {
				held, since = now, time.Now()
			}
		}
		t.Logf("%s: %d KiB a stream", scheme, held>>10/streams)
		if held > streams*most {
			t.Errorf("%s: %d streams hold %d KiB", scheme, streams, held>>10)
		}
		cancel()
		close(release)
		r.stop()
	}
}

func TestBodiesThatAreKeptToBeSentAgainAreLimited(t *testing.T) {
	t.Parallel()
	total := new(atomic.Int64)
	var all []*upload
	kept := func() (bytes int64, bodies int) {
		for _, u := range all {
			if u.again() {
				bodies++
				bytes += int64(len(u.buf))
			}
		}
		return bytes, bodies
	}
	one := func(size int, length int64) *reading {
		req, err := http.NewRequestWithContext(context.WithValue(t.Context(), keptKey{}, total), "POST", "https://x",
			io.MultiReader(bytes.NewReader(make([]byte, size))))
		check(t, err)
		req.ContentLength = length
		u := newUpload(req)
		all = append(all, u)
		r := u.read(nil, time.Minute, func() {})
		if n, err := io.Copy(io.Discard, r); n != int64(size) || err != nil {
			t.Errorf("%d bytes of %d: %v", n, size, err)
		}
		return r
	}
	for _, known := range []bool{false, true} {
		for size, want := range map[int]bool{
			0: true, 1: true, 4 << 10: true, 64<<10 - 1: true, 64 << 10: true, 64<<10 + 1: false, 1 << 20: false,
		} {
			length := int64(-1)
			if known {
				length = int64(size)
			}
			r := one(size, length)
			if r.again() != want {
				t.Errorf("%d bytes, length known %t: it can be sent again: %t", size, known, !want)
			}
			n, err := io.Copy(io.Discard, r.read(nil, time.Minute, func() {}))
			if want && (n != int64(size) || err != nil) {
				t.Errorf("the second time %d bytes of %d: %v", n, size, err)
			}
			if r.settle(r); len(r.buf) > 0 || total.Load() != 0 {
				t.Errorf("%d bytes: %d are still kept, counted %d", size, len(r.buf), total.Load())
			}
		}
	}
	all = nil
	for range 100 {
		one(60<<10, -1)
	}
	if n, bodies := kept(); n > replayableOfClient || bodies < 10 || total.Load() != n {
		t.Errorf("%d bytes of %d bodies are kept, counted %d", n, bodies, total.Load())
	}
	for _, u := range all {
		u.settle(nil)
	}
	if total.Load() != 0 {
		t.Errorf("nothing is kept, counted %d", total.Load())
	}
}

// Streams that are opened and reset leave nothing behind.
func TestStreamsThatAreResetAreEndedUpstream(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c"} {
		var now, most atomic.Int64
		up := origin(t, scheme, func(_ http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			<-r.Context().Done()
		})
		r := to(t, func(c *Config) { c.Limits.Streams = 20 }, up)
		for range 3 {
			f := r.raw()
			f.await(func(fr http2.Frame) bool { s, ok := fr.(*http2.SettingsFrame); return ok && s.IsAck() })
			go io.Copy(io.Discard, f.conn)
			var head bytes.Buffer
			e := hpack.NewEncoder(&head)
			for i := range uint32(1000) {
				head.Reset()
				for _, h := range [][2]string{
					{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {":authority", shop},
				} {
					check(t, e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
				}
				err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: head.Bytes(),
					EndStream: true, EndHeaders: true})
				if err != nil || f.WriteRSTStream(2*i+1, http2.ErrCodeCancel) != nil {
					break // the edge has had enough
				}
			}
			f.conn.Close()
		}
		r.until("all have ended", func() bool { return now.Load() == 0 })
		t.Logf("%s: at most %d requests at once", scheme, most.Load())
	}
}

func TestAConnectionWithoutARequestIsClosed(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Timeouts.Idle = 200 * time.Millisecond },
		origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	c := r.dial(shop, "http/1.1")
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", shop)
	closed(t, c)
	f := r.raw()
	f.request(1, true)
	closed(t, f.conn)
}

// heap is how much memory is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // pools give up what they had before the first one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestClientsThatDoNotGoOnAreCutOff(t *testing.T) {
	t.Parallel()
	h := func(w http.ResponseWriter, r *http.Request) (err error) {
		switch r.URL.Path {
		case "/up":
			_, err = io.Copy(io.Discard, r.Body)
		case "/down":
			for err == nil {
				_, err = w.Write(make([]byte, 64<<10))
			}
		case "/refuse":
			w.WriteHeader(413)
		}
		return err
	}
	head := func(c io.Writer, what string) { fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: shop.example\r\n", what) }
	for what, f := range map[string]func(*testing.T, *rig) (net.Conn, bool){
		"no handshake": func(t *testing.T, r *rig) (net.Conn, bool) {
			c, err := net.Dial("tcp", r.addrs[0])
			check(t, err)
			t.Cleanup(func() { c.Close() })
			return c, false
		},
		"no request": func(_ *testing.T, r *rig) (net.Conn, bool) { return r.dial(shop, "http/1.1"), false },
		"half a header": func(_ *testing.T, r *rig) (net.Conn, bool) {
			c := r.dial(shop, "http/1.1")
			head(c, "GET /")
			go func() { // a byte now and then does not help
				for _, err := io.WriteString(c, "X"); err == nil; _, err = io.WriteString(c, "X") {
					time.Sleep(50 * time.Millisecond)
				}
			}()
			return c, false
		},
		"half a body": func(_ *testing.T, r *rig) (net.Conn, bool) {
			c := r.dial(shop, "http/1.1")
			head(c, "POST /up")
			io.WriteString(c, "Content-Length: 10\r\n\r\n12345")
			return c, true
		},
		"half a body that nobody wants": func(_ *testing.T, r *rig) (net.Conn, bool) {
			c := r.dial(shop, "http/1.1")
			head(c, "POST /refuse")
			io.WriteString(c, "Content-Length: 10\r\n\r\n12345")
			return c, false
		},
		"half a body of a request that goes noRoute": func(_ *testing.T, r *rig) (net.Conn, bool) {
			c := r.dial(shop, "http/1.1")
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: other.example\r\nContent-Length: 10\r\n\r\n12345")
			return c, false
		},
		"half a body, HTTP/2": func(t *testing.T, r *rig) (net.Conn, bool) {
			f := r.raw()
			f.request(1, false, ":method", "POST", ":path", "/up", "content-length", "10")
			check(t, f.WriteData(1, false, []byte("12345")))
			if got := f.status(1); got != "408" {
				t.Errorf("%s", got)
			}
			return nil, true
		},
		"an answer that is not read": func(_ *testing.T, r *rig) (net.Conn, bool) {
			c := r.dial(shop, "http/1.1")
			head(c, "GET /down")
			io.WriteString(c, "\r\n")
			return nil, true
		},
		"an answer that is not read, HTTP/2 window": func(_ *testing.T, r *rig) (net.Conn, bool) {
			f := r.raw(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
			f.request(1, true, ":path", "/down")
			f.status(1)
			if got := f.status(1); got != "INTERNAL_ERROR" {
				t.Errorf("%s", got)
			}
			return nil, true
		},
		"an answer that is not read, HTTP/2 connection": func(t *testing.T, r *rig) (net.Conn, bool) {
			f := r.raw(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			check(t, f.WriteWindowUpdate(0, 1<<30))
			f.request(1, true, ":path", "/down")
			return nil, true
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			gone := make(chan error, 1)
			up := origin(t, "http", func(w http.ResponseWriter, r *http.Request) { gone <- h(w, r) })
			r := to(t, func(c *Config) { short(c); c.Timeouts.Header = 400 * time.Millisecond }, up)
			c, upstream := f(t, r)
			if c != nil {
				closed(t, c)
			}
			if !upstream {
				return
			}
			select {
			case err := <-gone:
				if err == nil {
					t.Error("the upstream believes that it was all")
				}
			case <-time.After(20 * time.Second):
				t.Error("the upstream hears nothing of it")
			}
		})
	}
}

func TestClientsAndUpstreamsMayTakeTheirTime(t *testing.T) {
	t.Parallel()
	const timeout, long = 500 * time.Millisecond, 700 * time.Millisecond
	h := func(w http.ResponseWriter, r *http.Request) {
		read := func() {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		}
		switch r.URL.Path {
		case "/trickle":
			read()
		case "/think": // before the answer, and within
			io.Copy(io.Discard, r.Body)
			time.Sleep(long)
			fmt.Fprint(w, "one ")
			http.NewResponseController(w).Flush()
			time.Sleep(long)
			fmt.Fprint(w, "two")
		case "/sized":
			w.Header().Set("Content-Length", "8")
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			time.Sleep(long)
			io.WriteString(w, "full")
		case "/late": // the body waits for its reader, and the client for both
			time.Sleep(long)
			read()
		}
	}
	for proto, scheme := range map[string]string{"http/1.1": "http", "h2": "h2c"} {
		t.Run(proto+" to "+scheme, func(t *testing.T) {
			t.Parallel()
			r := to(t, func(c *Config) { c.Timeouts.Body = timeout }, origin(t, scheme, h))
			c := r.over(proto)
			for _, q := range []struct {
				path, want string
				body       io.Reader
			}{
				{"/trickle", "10 <nil>", &trickle{left: 10, every: timeout / 5}},
				{"/think", "one two", strings.NewReader("read")}, {"/sized", "halffull", nil},
				{"/late", "20000000 <nil>", io.MultiReader(bytes.NewReader(make([]byte, 20_000_000)))},
				{"/sized", "halffull", nil},
			} {
				if resp, got := r.do(c, "POST", q.path, q.body); resp.StatusCode != 200 || got != q.want {
					t.Errorf("%s: %d %q", q.path, resp.StatusCode, got)
				}
				// no deadline of this request is left for the next one
				time.Sleep(timeout + 50*time.Millisecond)
			}
			if n := strings.Count(r.log.String(), "\n"); r.count("lockstep_edge_handshakes_full_total") != 1 {
				t.Errorf("%d requests were made on more connections than one", n)
			}
		})
	}
}

// trickle is a body that comes slowly.
type trickle struct {
	left  int
	every time.Duration
}

func (s *trickle) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.every)
	s.left--
	return 1, nil
}
