package edgeproxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// shakes makes a handshake as a client with this configuration, and reads once, since with TLS 1.3
// the server's verdict comes after the client's part.
func shakes(addr string, c *tls.Config) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	t := tls.Client(conn, c)
	if t.Handshake() == nil {
		t.Read(make([]byte, 1))
	}
}

// writes sends bytes, and closes the connection when the proxy does, or at once.
func writes(addr, text string, wait bool) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, text)
	if wait {
		io.Copy(io.Discard, conn)
	}
}

func TestAFailedHandshakeSaysWhy(t *testing.T) {
	t.Parallel()
	own, other := ca(t, "clients"), ca(t, "others")
	mtls := func(c *Config) { c.Listeners[0].ClientCA = clientCA(t, own) }
	named := func(c *Config) { mtls(c); c.Listeners[0].ClientNames = []string{"alice.example"} }
	shows := func(c tls.Certificate) func(*tls.Config) {
		return func(t *tls.Config) { // whatever CAs the proxy asks for
			t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		}
	}
	expired, err := own.Issue(fleet.Leaf{Names: []string{"alice.example"}, Valid: -time.Hour})
	check(t, err)
	old, err := tls.X509KeyPair(expired.Chain, expired.Key)
	check(t, err)
	for want, c := range map[string]struct {
		config func(*Config)
		client func(*tls.Config)
		raw    func(addr string)
		words  string
	}{
		"version": {config: func(c *Config) { c.Listeners[0].MinVersion = "1.3" },
			client: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, words: `TLS 1.2`},
		"version ": {client: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
			words: "TLS 1.1"},
		"cipher": {client: func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}},
		"no_name": {client: func(c *tls.Config) { c.ServerName = "" }},
		"unknown_name": {client: func(c *tls.Config) { c.ServerName = "unknown.example" },
			words: "unknown.example"},
		"unknown_name ":   {client: func(c *tls.Config) { c.ServerName = "a..b" }, words: "a..b"},
		"not_loaded":      {client: func(c *tls.Config) { c.ServerName = "away.example" }, words: "away.example"},
		"no_certificate":  {config: mtls},
		"expired":         {config: mtls, client: shows(old)},
		"unknown_ca":      {config: mtls, client: shows(person(t, other, "alice.example"))},
		"client_name":     {config: named, client: shows(person(t, own, "bob.example")), words: "bob.example"},
		"bad_certificate": {config: mtls, client: shows(wrongKey(t, own))},
		"refused_by_client": {
			client: func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, x509.NewCertPool() },
			words:  "bad certificate"},
		"alert": {raw: func(addr string) { writes(addr, "\x15\x03\x03\x00\x02\x02\x28", true) },
			words: "handshake failure"},
		"plaintext":    {raw: func(addr string) { writes(addr, "GET / HTTP/1.1\r\n\r\n", true) }, words: "https://"},
		"not_tls":      {raw: func(addr string) { writes(addr, "SSH-2.0-OpenSSH_9.2\r\n", true) }},
		"malformed":    {raw: func(addr string) { writes(addr, "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", true) }},
		"key_exchange": {raw: func(addr string) { writes(addr, with(hello(shop), 10, 0, 2, 1, 0), true) }},
		"signature":    {raw: func(addr string) { writes(addr, with(hello(shop), 13, 0, 2, 4, 1), true) }},
		"early_data":   {raw: func(addr string) { writes(addr, with(hello(shop), 42), true) }},
		"closed":       {raw: func(addr string) { writes(addr, string(hello(shop)[:20]), false) }},
		"closed ":      {raw: func(addr string) { writes(addr, "", false) }},
		"timeout": {config: func(c *Config) { c.Timeouts.Header = 200 * time.Millisecond },
			raw: func(addr string) { writes(addr, "\x16", true) }, words: "timeouts.header"},
		"proxy_header": {config: balancers, raw: func(addr string) { writes(addr, string(hello(shop)), true) },
			words: "send-proxy-v2"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			want := strings.TrimSpace(want)
			r := to(t, c.config, origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
			if c.raw != nil {
				c.raw(r.addrs[0])
			} else {
				conf := &tls.Config{ServerName: shop, InsecureSkipVerify: true}
				if c.client != nil {
					c.client(conf)
				}
				shakes(r.addrs[0], conf)
			}
			r.until("it is counted", func() bool { return r.count("lockstep_edge_handshakes_failed_total") == 1 })
			if r.labelled("lockstep_edge_handshakes_failed_total", want) != 1 {
				t.Errorf("it is counted as another: %s", r.own.String())
			}
			line := r.failure()
			if line["reason"] != want || !strings.Contains(fmt.Sprint(line), c.words) ||
				!strings.HasPrefix(fmt.Sprint(line["remote"]), "127.0.0.1:") {
				t.Errorf("%v", line)
			}
			t.Log(line["level"], line["msg"], "|", line["error"])
		})
	}
}

// with returns a client's first record with another extension of that kind.
func with(record []byte, kind uint16, body ...byte) string {
	message := record[5:]
	suites := 4 + 2 + 32 + 1 + int(message[4+2+32])
	methods := suites + 2 + int(binary.BigEndian.Uint16(message[suites:]))
	at := methods + 1 + int(message[methods])
	var all []byte
	for rest := message[at+2:]; len(rest) > 0; {
		n := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		if binary.BigEndian.Uint16(rest) != kind {
			all = append(all, rest[:n]...)
		}
		rest = rest[n:]
	}
	all = binary.BigEndian.AppendUint16(all, kind)
	all = append(binary.BigEndian.AppendUint16(all, uint16(len(body))), body...)
	out := binary.BigEndian.AppendUint16(bytes.Clone(message[:at]), uint16(len(all)))
	out = append(out, all...)
	out[2], out[3] = byte((len(out)-4)>>8), byte(len(out)-4)
	return string(append(binary.BigEndian.AppendUint16([]byte{22, 3, 1}, uint16(len(out))), out...))
}

// wrongKey is a client certificate whose key is another one's.
func wrongKey(t *testing.T, c *fleet.CA) tls.Certificate {
	t.Helper()
	out := person(t, c, "alice.example")
	out.PrivateKey = person(t, c, "alice.example").PrivateKey
	return out
}

// failure waits for the first line of the proxy's own log about a handshake.
func (r *rig) failure() (line map[string]any) {
	r.Helper()
	r.until("there is a line in the log", func() bool { return strings.Contains(r.own.String(), `"reason"`) })
	for l := range strings.Lines(r.own.String()) {
		line = nil
		check(r.TB, json.Unmarshal([]byte(l), &line))
		if line["reason"] != nil {
			break
		}
	}
	return line
}

func TestAScannerGetsFewLines(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	const n = 200
	for range n {
		writes(r.addrs[0], "GET / HTTP/1.1\r\n\r\n", true)
	}
	r.until("all are counted", func() bool { return r.count("lockstep_edge_handshakes_failed_total") == n })
	if got := strings.Count(r.own.String(), `"reason"`); got != 1 {
		t.Errorf("%d lines:\n%s", got, r.own.String())
	}
}

func TestTheLinesOfFailedHandshakesAreLimited(t *testing.T) {
	t.Parallel()
	f, now := newFailures(), time.Now()
	due := func(host int, r reason, after time.Duration) (before, leftOut int, ok bool) {
		return f.due("l", fmt.Sprintf("10.0.%d.%d:1", host/256, host%256), r, now.Add(after))
	}
	if _, _, ok := due(1, notTLS, 0); !ok {
		t.Error("the first has no line")
	}
	for range 5 {
		if _, _, ok := due(1, notTLS, time.Second); ok {
			t.Error("the same has a line again")
		}
	}
	if _, _, ok := due(1, noCipher, time.Second); !ok {
		t.Error("another reason has no line")
	}
	if before, _, ok := due(1, notTLS, repeatAfter); !ok || before != 5 {
		t.Errorf("a minute later: %t, after %d", ok, before)
	}
	lines, left := 0, 0
	for i := range 5000 { // a botnet
		if _, leftOut, ok := due(i+2, notTLS, repeatAfter+time.Duration(i)*10*time.Millisecond); ok {
			lines++
			left += leftOut
		}
	}
	if lines > atFirst+10 || left == 0 || len(f.peers) > maxPeers {
		t.Errorf("%d lines, which name %d others; %d addresses are remembered", lines, left, len(f.peers))
	}
}

// A panic in a handshake or a request ends that one. Its stack is one line of the log.
func TestAPanicIsOneLineOfTheLog(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(http.ResponseWriter, *http.Request) {}))
	shakes(r.addrs[0], &tls.Config{ServerName: "panic.example", InsecureSkipVerify: true})
	for _, s := range []*http.Server{r.proxy.listeners[0].http1, r.proxy.listeners[0].http2} {
		next := s.Handler
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				panic("on purpose\nin two lines")
			}
			next.ServeHTTP(w, r)
		})
	}
	for _, proto := range protos {
		if resp, err := r.over(proto).Get("https://" + shop + "/panic"); err == nil {
			resp.Body.Close()
			t.Errorf("%s: %s", proto, resp.Status)
		}
		if resp, _ := r.do(r.over(proto), "GET", "/", nil); resp.StatusCode != 200 {
			t.Errorf("%s: the next request: %s", proto, resp.Status)
		}
	}
	r.until("the panics are in the log", func() bool { return strings.Count(r.own.String(), "panic") >= 3 })
	n := 0
	for l := range strings.Lines(r.own.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		if line["stack"] != nil {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d stacks:\n%s", n, r.own.String())
	}
}

// An absence is known by its error, and so is a control plane that does not answer.
func TestWhyThereIsNoCertificate(t *testing.T) {
	for want, err := range map[reason]error{
		unknownName: noCertificate{fmt.Errorf("no: %w", keysource.ErrNotExist)},
		notLoaded:   noCertificate{errors.New("the control plane does not answer")},
		noProtocol:  errors.New(`tls: client requested unsupported application protocols (["x"])`),
		noVersion:   errors.New("tls: client using inappropriate protocol fallback"),
		notTLS:      errors.New("tls: unsupported SSLv2 handshake received"),
		otherReason: errors.New("what nobody knows"),
	} {
		if got := reasonOf(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
	for r := range reasons {
		if r.String() == "" || r.words() == "" {
			t.Errorf("reason %d has no words", r)
		}
	}
}
