package edgeproxy

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// ask sends a request for host on a connection that was made for a server name, and returns the
// status; 0 where the handshake fails.
func ask(r *rig, at int, name, host string) int {
	// the certificate is not what is asked
	c, err := tls.Dial("tcp", r.addrs[at], &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return 0
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return -1
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestAServerNameAndAHostThatDisagreeGet421(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners = []Listener{{}, {Fallback: shop}} },
		origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	r.serve("xn--caf-dma.example")
	for _, c := range []struct {
		name, host    string
		without, with int // a fallback
	}{
		{name: shop, host: shop, without: 200, with: 200},
		{name: shop, host: "SHOP.Example", without: 200, with: 200},
		{name: shop, host: "shop.example:18443", without: 200, with: 200},
		{name: shop, host: "shop.example.", without: 200, with: 200},
		{name: shop, host: "shop.example.:443", without: 200, with: 200},
		{name: "SHOP.example", host: shop, without: 200, with: 200},
		{name: "a.example.org", host: "a.example.org", without: 200, with: 200},
		// the same certificate
		{name: "a.example.org", host: "b.example.org", without: 421, with: 421},
		{name: shop, host: "other.example", without: 421, with: 421},
		{name: shop, host: "127.0.0.1", without: 421, with: 421},
		{name: shop, host: "[::1]:443", without: 421, with: 421},
		{name: shop, host: "", without: 421, with: 421},
		{name: shop, host: "*.example", without: 421, with: 421},
		{name: shop, host: "shop.example:443:443", without: 421, with: 421},
		{name: "xn--caf-dma.example", host: "xn--caf-dma.example", without: 200, with: 200},
		{name: "xn--caf-dma.example", host: "caf%C3%A9.example", without: 421, with: 421},
		// the operator wants these served
		{name: "unknown.example", host: "unknown.example", without: 0, with: 200},
		{name: "unknown.example", host: shop, without: 0, with: 421},
		{name: "*.example.org", host: "*.example.org", without: 0, with: 421},
		{name: "", host: shop, without: 0, with: 200},
		{name: "", host: "a.example.org", without: 0, with: 421},
		{name: "", host: "127.0.0.1", without: 0, with: 421},
	} {
		if got := ask(r, 0, c.name, c.host); got != c.without {
			t.Errorf("server name %q, host %q, no fallback: %d, not %d", c.name, c.host, got, c.without)
		}
		if got := ask(r, 1, c.name, c.host); got != c.with {
			t.Errorf("server name %q, host %q, with a fallback: %d, not %d", c.name, c.host, got, c.with)
		}
	}
	f := r.raw()
	for i, c := range []struct{ host, want string }{{shop, "200"}, {"a.example.org", "421"},
		{"shop.example:443", "200"}, {"other.example", "421"}, {shop, "200"}} {
		stream := uint32(2*i + 1)
		f.request(stream, true, ":authority", c.host)
		if got := f.status(stream); got != c.want {
			t.Errorf("one HTTP/2 connection, host %q: %s, not %s", c.host, got, c.want)
		}
	}
}

// A session under the fallback's certificate does not come in where there is no fallback.
func TestNoSessionWithoutAServerNameIsResumedWithoutAFallback(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Listeners = []Listener{{Fallback: shop}, {}} }, "http://127.0.0.1:1")
	store := tls.NewLRUClientSessionCache(10)
	for i, want := range []string{"a handshake", "a resumption", "nothing"} {
		c := &tls.Config{RootCAs: r.ca.Pool(), InsecureSkipVerify: true, ClientSessionCache: named{store}}
		conn, err := tls.Dial("tcp", r.addrs[i/2], c)
		got := "nothing"
		if err == nil {
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", shop)
			io.Copy(io.Discard, conn)
			got = map[bool]string{false: "a handshake", true: "a resumption"}[conn.ConnectionState().DidResume]
			conn.Close()
		}
		if got != want {
			t.Errorf("connection %d is %s, not %s (%v)", i, got, want, err)
		}
	}
}

// named keeps all sessions under one name: crypto/tls would use the address, and they are to go
// from one to another.
type named struct{ tls.ClientSessionCache }

func (n named) Get(string) (*tls.ClientSessionState, bool) { return n.ClientSessionCache.Get("") }
func (n named) Put(_ string, s *tls.ClientSessionState)    { n.ClientSessionCache.Put("", s) }

// hello makes the first record of a handshake, with any bytes as the server name.
func hello(name string) []byte {
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		tls.Client(here, &tls.Config{ServerName: strings.Repeat("n", 63) + ".example",
			InsecureSkipVerify: true}).Handshake()
		here.Close()
	}()
	head := make([]byte, 5)
	io.ReadFull(there, head)
	record := make([]byte, binary.BigEndian.Uint16(head[3:]))
	io.ReadFull(there, record)
	old := strings.Repeat("n", 63) + ".example"
	at := strings.Index(string(record), old)
	out := append(append(append([]byte(nil), record[:at]...), name...), record[at+len(old):]...)
	grow := func(i, n int) { // the lengths that the name is within
		v := 0
		for _, b := range out[i : i+n] {
			v = v<<8 | int(b)
		}
		v += len(name) - len(old)
		for j := n - 1; j >= 0; j, v = j-1, v>>8 {
			out[i+j] = byte(v)
		}
	}
	grow(at-2, 2) // the name
	grow(at-5, 2) // the list of names
	grow(at-7, 2) // the extension
	session := 4 + 2 + 32
	suites := session + 1 + int(out[session])
	methods := suites + 2 + int(binary.BigEndian.Uint16(out[suites:]))
	grow(methods+1+int(out[methods]), 2) // all extensions
	grow(1, 3)                           // the message
	return append(binary.BigEndian.AppendUint16([]byte{22, 3, 1}, uint16(len(out))), out...)
}

func TestHandshakesThatMakeNoSenseFailAtOnceAndHurtNobody(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 3000)
	rand.Read(noise)
	good := hello(shop)
	label := strings.Repeat("a", 61) + "."
	first := map[string][]byte{
		"noise": noise, "zeroes": make([]byte, 3000), "HTTP": []byte("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
		"an alert":     {21, 3, 3, 0, 2, 2, 40},
		"half a hello": append(good[:len(good)/2:len(good)/2], noise...), "a huge record": {22, 3, 1, 255, 255, 1},
		"a huge hello": append([]byte{22, 3, 1, 64, 0, 1, 255, 255, 255}, noise...),
		"HTTP/2":       []byte(http2.ClientPreface), "nothing": {},
	}
	for _, name := range []string{
		"unknown.example", "", ".", "..", "a..b", "-", "\x00", "\xff\xfe", "a\nb", "127.0.0.1", "::1", "*.example.org",
		"shop.example.", "caf\u00e9.example", "../../etc/passwd", "spiffe://x",
		strings.Repeat(label, 4) + "abcdef", strings.Repeat(label, 4) + "abcdefg", strings.Repeat("a", 255),
		strings.Repeat("a.", 127) + "a", strings.Repeat("a", 10_000), "xn--", "xn--a", strings.Repeat(".", 255),
	} {
		first[fmt.Sprintf("the server name %.40q of %d bytes", name, len(name))] = hello(name)
	}
	r := to(t, func(c *Config) { c.Listeners = []Listener{{}, {Fallback: shop}} },
		origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	if b := answer(r, 0, good); len(b) == 0 || b[0] != 22 {
		t.Fatalf("the hello that the others are made of is answered with %x", b)
	}
	var g sync.WaitGroup
	for what, b := range first {
		for at := range 2 {
			g.Go(func() {
				got := answer(r, at, b)
				if served := len(got) > 0 && got[0] == 22; served && at == 0 {
					t.Errorf("%s: answered with %x", what, got[:min(len(got), 20)])
				} else if at == 1 && strings.Contains(what, "unknown.example") != served &&
					strings.Contains(what, "unknown.example") {
					t.Errorf("%s: the fallback does not answer: %x", what, got)
				}
			})
		}
		if got := ask(r, 0, shop, shop); got != 200 {
			t.Errorf("beside %s: another client gets %d", what, got)
		}
	}
	g.Wait()
	if n := r.count("lockstep_edge_handshakes_failed_total"); n < float64(len(first)) {
		t.Errorf("%v failures are counted, of %d", n, len(first))
	}
}

// answer sends the first bytes of a connection, and then nothing more, and returns what comes back
// until the proxy closes the connection (or serves it).
func answer(r *rig, at int, b []byte) []byte {
	c, err := net.Dial("tcp", r.addrs[at])
	check(r.TB, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write(b)
	c.(*net.TCPConn).CloseWrite()
	out, err := io.ReadAll(c)
	if err, ok := err.(net.Error); ok && err.Timeout() {
		r.Errorf("the proxy keeps a connection open that began with %.30x", b)
	}
	return out
}

// A session ends with its host's certificate, and goes on where another one takes that one's
// place.
func TestASessionEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(4)
		get := func() (resumed bool, err error) {
			c := r.client(0, func(c *tls.Config) {
				c.ClientSessionCache, c.MinVersion, c.MaxVersion = cache, version,
					version
			})
			defer c.CloseIdleConnections()
			resp, err := c.Get("https://" + shop)
			if err != nil {
				return false, err
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return resp.TLS.DidResume, nil
		}
		if _, err := get(); err != nil {
			t.Fatal(err)
		}
		r.serve(shop) // a renewal
		if resumed, err := get(); err != nil || !resumed {
			t.Errorf("%s: after a renewal it resumes: %t, %v", tls.VersionName(version), resumed, err)
		}
		r.held.mu.Lock()
		delete(r.held.certs, shop)
		r.held.mu.Unlock()
		if _, err := get(); err == nil {
			t.Errorf("%s: it is served without a certificate", tls.VersionName(version))
		}
		r.serve(shop)
	}
}
