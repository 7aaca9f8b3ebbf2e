package edgeproxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// begin makes a handshake with the first listener, and returns the connection.
func (r *rig) begin(at int, change func(*tls.Config)) (*tls.Conn, error) {
	c := &tls.Config{RootCAs: r.ca.Pool(), ServerName: shop}
	change(c)
	conn, err := tls.Dial("tcp", r.addrs[at], c)
	if err == nil {
		r.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return conn, err
}

func TestAClientWhoseProtocolsTheEdgeDoesNotSpeakGoesOnWithout(t *testing.T) {
	t.Parallel()
	up := origin(t, "http", empty)
	r := to(t, func(c *Config) {
		c.Listeners = append(c.Listeners, Listener{HealthPath: "/-/healthy"},
			Listener{ProxyProtocol: []string{"10.0.0.0/8"}})
	}, up)
	for at := range r.addrs {
		for offered, want := range map[string]string{
			"": "", "spdy/3": "", "acme-tls/1": "", "http/1.0": "", "foo": "", "h2c": "", "http/0.9 h3": "", "H2": "",
			"http/1.1": "http/1.1", "h2": "h2", "spdy/3 http/1.1": "http/1.1", "acme-tls/1 h2": "h2",
			"http/1.1 h2": "h2",
		} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				what := fmt.Sprintf("listener %d, %q, %s", at, offered, tls.VersionName(version))
				conn, err := r.begin(at, func(c *tls.Config) {
					c.NextProtos, c.MinVersion, c.MaxVersion = strings.Fields(offered), version, version
				})
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				if got := conn.ConnectionState().NegotiatedProtocol; got != want {
					t.Errorf("%s: the edge chose %q, want %q", what, got, want)
				}
				if want == "h2" {
					continue
				}
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", shop)
				if b, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
					t.Errorf("%s: %v: %.100s", what, err, b)
				}
			}
		}
	}
}

// A session does not depend on the protocol that was negotiated in it.
func TestASessionResumesWithoutAProtocolToo(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", empty))
	store := tls.NewLRUClientSessionCache(10)
	for i, offered := range []string{"http/1.1", "foo", "foo", "h2"} {
		conn, err := r.begin(0, func(c *tls.Config) {
			c.NextProtos, c.ClientSessionCache = []string{offered}, store
		})
		check(t, err)
		if got := conn.ConnectionState().DidResume; got != (i > 0) {
			t.Errorf("connection %d, with %s: resumed %t", i+1, offered, got)
		}
		if offered != "h2" {
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", shop)
			io.Copy(io.Discard, conn) // the ticket comes before the answer
		}
	}
}

func TestTLS12TakesNoSuiteWithCBC(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", empty))
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS13) {
			continue
		}
		want := slices.Contains(suites, s.ID) && strings.Contains(s.Name, "ECDSA") // as its key
		_, err := r.begin(0, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{s.ID}
		})
		if (err == nil) != want {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	for _, id := range suites {
		if name := tls.CipherSuiteName(id); !strings.HasPrefix(name, "TLS_ECDHE_") || strings.Contains(name, "CBC") {
			t.Errorf("%s is taken", name)
		}
	}
}

// helloWith records a ClientHello of crypto/tls, and puts the extension of early data into it.
func helloWith(t *testing.T, c *tls.Config) []byte {
	t.Helper()
	here, there := net.Pipe()
	go tls.Client(there, c).Handshake()
	defer there.Close()
	here.SetDeadline(time.Now().Add(20 * time.Second))
	head := make([]byte, 5)
	_, err := io.ReadFull(here, head)
	check(t, err)
	hello := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err = io.ReadFull(here, hello)
	check(t, err)
	// The extensions come last. Their length stands behind the version (4 and 2), the random (32),
	// the session ID, the suites and the compression methods.
	at := 4 + 2 + 32
	at += 1 + int(hello[at])
	at += 2 + int(binary.BigEndian.Uint16(hello[at:]))
	at += 1 + int(hello[at])
	hello = slices.Insert(hello, at+2, 0, extensionEarlyData, 0, 0)
	binary.BigEndian.PutUint16(hello[at:], uint16(len(hello)-at-2))
	binary.BigEndian.PutUint16(hello[2:], uint16(len(hello)-4))
	binary.BigEndian.PutUint16(head[3:], uint16(len(hello)))
	return append(head, hello...)
}

// offerEarlyData sends such a ClientHello and what follows it, and returns the first record.
func (r *rig) offerEarlyData(at int, min uint16, follows []byte) (kind byte, body []byte) {
	r.Helper()
	return r.offerEarlyDataTo(at, shop, min, follows)
}

// offerEarlyDataTo is for a server name ("": none).
func (r *rig) offerEarlyDataTo(at int, name string, min uint16, follows []byte) (kind byte, body []byte) {
	r.Helper()
	hello := helloWith(r.TB.(*testing.T), &tls.Config{ServerName: name, MinVersion: min, InsecureSkipVerify: true})
	conn, err := net.Dial("tcp", r.addrs[at])
	check(r.TB, err)
	r.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = conn.Write(append(hello, follows...))
	check(r.TB, err)
	head := make([]byte, 5)
	_, err = io.ReadFull(conn, head)
	check(r.TB, err)
	body = make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err = io.ReadFull(conn, body)
	check(r.TB, err)
	return head[0], body
}

// Browsers take a ServerHello of TLS 1.2 for a server that has never heard of early data, and begin
// again without. No alert makes both Chromium and Firefox do so.
func TestEarlyDataIsAnsweredInTLS12AndCounted(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) {
		c.Listeners = append(c.Listeners, Listener{MinVersion: "1.3"},
			Listener{ClientCA: clientCA(t, ca(t, "clients"))})
	}, origin(t, "http", empty))
	const alert, handshake, changeCipherSpec, data, serverHello = 21, 22, 20, 23, 2
	early := append([]byte{changeCipherSpec, 3, 3, 0, 1, 1}, data, 3, 3, 0, 20)
	early = append(early, make([]byte, 20)...)
	for at := range r.addrs {
		kind, body := r.offerEarlyData(at, tls.VersionTLS12, early)
		if kind != handshake || body[0] != serverHello || binary.BigEndian.Uint16(body[4:]) != tls.VersionTLS12 ||
			bytes.Contains(body[6:38], []byte("DOWNGRD")) {
			t.Errorf("listener %d: record %d: % x", at, kind, body)
		}
	}
	// Who does not speak TLS 1.2 gets the alert of crypto/tls (unsupported_extension).
	if kind, body := r.offerEarlyData(0, tls.VersionTLS13, early); kind != alert || body[1] != 110 {
		t.Errorf("a client that speaks TLS 1.3 only: record %d: % x", kind, body)
	}
	if n := r.count("lockstep_edge_early_data_offers_total"); n != 4 {
		t.Errorf("%v offers were counted", n)
	}
	r.until("the handshakes have failed", func() bool { return r.count("lockstep_edge_handshakes_failed_total") == 4 })
	if n := r.count("lockstep_edge_handshakes_full_total"); n != 0 {
		t.Errorf("%v handshakes are counted as made", n)
	}
}

// A browser that opens an address sends no server name.
func TestEarlyDataToAnAddressIsAnsweredInTLS12(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) {
		c.Listeners = []Listener{{}, {HealthPath: probePath}, {Fallback: shop},
			{ClientCA: clientCA(t, ca(t, "clients"))}}
	}, origin(t, "http", empty))
	r.serve(loopback)
	const handshake, serverHello = 22, 2
	for at := range r.addrs {
		kind, body := r.offerEarlyDataTo(at, "", tls.VersionTLS12, nil)
		if kind != handshake || body[0] != serverHello || binary.BigEndian.Uint16(body[4:]) != tls.VersionTLS12 {
			t.Errorf("listener %d: record %d: % x", at, kind, body)
		}
	}
	if n := r.count("lockstep_edge_handshakes_full_total"); n != 0 {
		t.Errorf("%v handshakes are counted as made", n)
	}
}

// A client that goes on in TLS 1.2 has offered TLS 1.3, and listeners may demand it.
func TestNobodyGoesOnInTLS12AfterAnOfferOfEarlyData(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", empty))
	l := r.proxy.listeners[0]
	here, there := net.Pipe()
	defer here.Close()
	ended := make(chan error, 1)
	go func() {
		defer there.Close()
		ended <- tls.Server(there, l.current.Load().early.alpn).Handshake()
	}()
	err := tls.Client(here, &tls.Config{RootCAs: r.ca.Pool(), ServerName: shop}).Handshake()
	if got := <-ended; err == nil || got == nil || !strings.Contains(got.Error(), errEarlyData.Error()) {
		t.Errorf("the client ended with %v, the edge with %v", err, got)
	}
}

// empty is an upstream's answer.
func empty(http.ResponseWriter, *http.Request) {}
