package edgeproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// origin starts an upstream, and returns its URL.
func origin(t testing.TB, scheme string, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	switch scheme {
	case "https":
		s.EnableHTTP2 = true
		s.StartTLS()
	case "h2c":
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	default:
		s.Start()
	}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return scheme + "://" + s.Listener.Addr().String()
}

// originPair is the certificate of every https origin, for 127.0.0.1.
func originPair(t testing.TB) tls.Certificate {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS.Certificates[0]
}

// originCA is the file with its CA.
func originCA(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "origin.pem")
	check(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: originPair(t).Certificate[0]}), 0o600))
	return file
}

// to starts a proxy that sends everything to ups.
func to(t testing.TB, change func(*Config), ups ...string) *rig {
	t.Helper()
	c := Config{Listeners: []Listener{{}}, Routes: []Route{{Host: "*", Path: "/", Upstreams: ups}},
		Limits: DefaultLimits(), Timeouts: DefaultTimeouts()}
	if strings.HasPrefix(ups[0], "https") {
		c.Routes[0].UpstreamCA = originCA(t)
	}
	if change != nil {
		change(&c)
	}
	return run(t, c)
}

// over is a client of the first listener that speaks one version of HTTP.
func (r *rig) over(proto string) *http.Client {
	c := r.client(0, nil)
	t := c.Transport.(*http.Transport)
	t.Protocols, t.DisableCompression, t.ExpectContinueTimeout = new(http.Protocols), true, 10*time.Second
	t.Protocols.SetHTTP1(proto == "http/1.1")
	t.Protocols.SetHTTP2(proto == "h2")
	return c
}

var protos = []string{"http/1.1", "h2"}

// do sends a request for a path of the shop, and returns the response with its body.
func (r *rig) do(c *http.Client, method, path string, body io.Reader, more ...func(*http.Request)) (*http.Response,
	string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, "https://"+shop+path, body)
	check(r.TB, err)
	for _, f := range more {
		f(req)
	}
	resp, err := c.Do(req)
	check(r.TB, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	check(r.TB, err)
	return resp, string(b)
}

// dial makes a TLS connection for a server name ("": none) and an application protocol.
func (r *rig) dial(name, proto string) *tls.Conn {
	r.Helper()
	// what is verified is said by others
	c, err := tls.Dial("tcp", r.addrs[0],
		&tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{proto}})
	check(r.TB, err)
	r.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// raw is an HTTP/2 connection whose every frame the test chooses.
type raw struct {
	*rig
	*http2.Framer
	conn *tls.Conn
}

func (r *rig) raw(settings ...http2.Setting) *raw {
	r.Helper()
	conn := r.dial(shop, "h2")
	_, err := io.WriteString(conn, http2.ClientPreface)
	check(r.TB, err)
	f := &raw{r, http2.NewFramer(conn, conn), conn}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	check(r.TB, f.WriteSettings(settings...))
	return f
}

// request opens a stream with these fields over the usual ones; end says that it has no body.
func (f *raw) request(stream uint32, end bool, fields ...string) {
	f.Helper()
	all := map[string]string{":method": "GET", ":scheme": "https", ":path": "/", ":authority": shop}
	for i := 0; i < len(fields); i += 2 {
		all[fields[i]] = fields[i+1]
	}
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, name := range []string{":method", ":scheme", ":path", ":authority"} {
		check(f.TB, e.WriteField(hpack.HeaderField{Name: name, Value: all[name]}))
		delete(all, name)
	}
	for name, value := range all {
		check(f.TB, e.WriteField(hpack.HeaderField{Name: name, Value: value}))
	}
	head := b.Next(16 << 10)
	check(f.TB, f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head, EndStream: end,
		EndHeaders: b.Len() == 0}))
	for b.Len() > 0 {
		head = b.Next(16 << 10)
		check(f.TB, f.WriteContinuation(stream, b.Len() == 0, head))
	}
}

// await reads frames until one satisfies want.
func (f *raw) await(want func(http2.Frame) bool) http2.Frame {
	f.Helper()
	for {
		frame, err := f.ReadFrame()
		check(f.TB, err)
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			check(f.TB, f.WriteSettingsAck())
		}
		if want(frame) {
			return frame
		}
	}
}

// status reads the answer to a stream: its status, or the code of its reset.
func (f *raw) status(stream uint32) string {
	f.Helper()
	switch v := f.await(func(fr http2.Frame) bool {
		switch fr.(type) {
		case *http2.MetaHeadersFrame, *http2.RSTStreamFrame:
			return fr.Header().StreamID == stream
		}
		return false
	}).(type) {
	case *http2.MetaHeadersFrame:
		return v.PseudoValue("status")
	case *http2.RSTStreamFrame:
		return v.ErrCode.String()
	}
	return ""
}

// lines waits until the access log has n lines, and returns them.
func (r *rig) lines(n int) (out []map[string]any) {
	r.Helper()
	r.until("there are lines in the access log", func() bool { return strings.Count(r.log.String(), "\n") >= n })
	for line := range strings.Lines(r.log.String()) {
		var m map[string]any
		check(r.TB, json.Unmarshal([]byte(line), &m))
		out = append(out, m)
	}
	return out
}

// until waits for a condition.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("not within 20 s: %s", what)
		}
	}
}

// closed waits for the other side to end a connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "i/o timeout") {
		t.Error("the proxy keeps the connection open")
	}
}

// short are timeouts of a body that a test can wait for.
func short(c *Config) { c.Timeouts.Body = 300 * time.Millisecond }

// shortly is a context that ends with the test, in 20 s at most.
func shortly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// counted counts the reads of a body.
type counted struct {
	r io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	c.n.Add(1)
	return c.r.Read(p)
}

// endless is a body.
type endless struct{}

func (*endless) Read(p []byte) (int, error) { return len(p), nil }
