package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// logged is a log that a test reads.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// lockstepd is a gRPC and an HTTPS listener as lockstepd has them, with their failures.
func lockstepd(t *testing.T, m *MTLS) (xds, admin string, f *Failures, lines *logged) {
	t.Helper()
	lines = &logged{}
	f = NewFailures(lines.logger())
	s := grpc.NewServer(grpc.Creds(f.Credentials("xds", credentials.NewTLS(m.Server("h2")))),
		grpc.ConnectionTimeout(time.Second))
	h := &http.Server{
		TLSConfig: m.Server("h2", "http/1.1"), ReadHeaderTimeout: time.Second,
		ErrorLog: slog.NewLogLogger(f.ErrorLog("admin", lines.logger().Handler()), slog.LevelDebug),
	}
	var addrs []string
	for _, serve := range []func(net.Listener) error{
		s.Serve, func(l net.Listener) error { return h.ServeTLS(l, "", "") },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		testkit.Check(t, err)
		addrs = append(addrs, l.Addr().String())
		done := make(chan struct{})
		go func() { defer close(done); serve(l) }()
		t.Cleanup(func() { s.Stop(); h.Close(); <-done })
	}
	return addrs[0], addrs[1], f, lines
}

// knock connects, makes a handshake, and waits for the server's verdict.
func knock(addr string, c *tls.Config) error {
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestAFailedHandshakeIsLoggedWithItsReasonAndCounted(t *testing.T) {
	t.Parallel()
	ca, other := identitytest.NewAuthority(t, ""), identitytest.NewAuthority(t, "")
	dir := t.TempDir()
	identitytest.Certify(t, dir, "server.example")
	pemFile := filepath.Join(dir, "ca.pem")
	testkit.Check(t, os.WriteFile(pemFile, identitytest.PEM(ca.Cert), 0o600))
	m, err := Open(filesIn(filepath.Join(dir, "server.example"), pemFile))
	testkit.Check(t, err)
	defer m.Close()
	xds, admin, f, lines := lockstepd(t, m)

	pair := func(by identitytest.Authority, name string, until time.Duration) []tls.Certificate {
		cert, key := by.SignUntil(&x509.Certificate{DNSNames: []string{name}}, time.Now().Add(until))
		return []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	}
	client := func(certs []tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: certs}
	}
	believes := func(c *tls.Config) *tls.Config { c.InsecureSkipVerify = false; c.ServerName = "x.example"; return c }
	old := client(pair(ca, "edge-1.example", time.Hour))
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	alpn := client(pair(ca, "edge-1.example", time.Hour))
	alpn.NextProtos = []string{"gopher"}
	raw := func(text string) func(string) error {
		return func(addr string) error {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			defer c.Close()
			fmt.Fprint(c, text)
			if text != "" {
				c.SetReadDeadline(time.Now().Add(5 * time.Second))
				_, err = io.Copy(io.Discard, c)
			}
			return err
		}
	}
	with := func(c *tls.Config) func(string) error { return func(addr string) error { return knock(addr, c) } }
	for _, one := range []struct {
		reason Reason
		do     func(addr string) error
		says   string
	}{
		{ExpiredCertificate, with(client(pair(ca, "edge-7.example", -time.Minute))), "edge-7.example until"},
		{UnknownCA, with(client(pair(other, "edge-1.example", time.Hour))), "edge-1.example until"},
		{NoCertificate, with(client(nil)), ""},
		{WrongProtocol, with(old), ""},
		{WrongProtocol, with(alpn), ""},
		{Plaintext, raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""},
		{Timeout, raw("\x16\x03"), ""},
		{RefusedByPeer, with(believes(client(pair(ca, "edge-1.example", time.Hour)))), ""},
		{Closed, raw(""), ""},
	} {
		for listener, addr := range map[string]string{"xds": xds, "admin": admin} {
			before := f.Counts()[listener][one.reason]
			one.do(addr)
			testkit.Until(t, func() error {
				if n := f.Counts()[listener][one.reason]; n != before+1 {
					return fmt.Errorf("%s at %s: counted %d, want %d", one.reason, listener, n, before+1)
				}
				return nil
			})
			if listener == "xds" && one.reason != Closed {
				testkit.Until(t, func() error {
					if s := lines.String(); !strings.Contains(s, one.reason.Words()) ||
						!strings.Contains(s, one.says) || !strings.Contains(s, "remote=127.0.0.1:") {
						return fmt.Errorf("%s: the log says %s", one.reason, s)
					}
					return nil
				})
			}
		}
	}
	if strings.Contains(lines.String(), Closed.Words()) {
		t.Error("a probe that connects and goes away is logged as a failure")
	}
	for listener, counts := range f.Counts() {
		if counts[OtherReason] != 0 {
			t.Errorf("%s: %d handshakes failed for no reason:\n%s", listener, counts[OtherReason], lines)
		}
	}
}

// TLS at a plaintext port is logged with the peer's address and what to do, and counted. Who speaks
// plaintext there is served.
func TestTLSAtAPlaintextPortIsSaid(t *testing.T) {
	t.Parallel()
	lines := &logged{}
	f := NewFailures(lines.logger())
	socket := filepath.Join(t.TempDir(), "s")
	s := grpc.NewServer(grpc.Creds(f.Plaintext("xds", insecure.NewCredentials())))
	u := grpc.NewServer(grpc.Creds(f.Plaintext("socket", SocketCredentials())))
	h := &http.Server{ReadHeaderTimeout: time.Second}
	var done sync.WaitGroup
	listen := func(network, addr string, serve func(net.Listener) error) (at string) {
		l, err := net.Listen(network, addr)
		testkit.Check(t, err)
		done.Go(func() { serve(l) })
		return l.Addr().String()
	}
	at := map[string][2]string{
		"xds":    {"tcp", listen("tcp", "127.0.0.1:0", s.Serve)},
		"socket": {"unix", listen("unix", socket, u.Serve)},
		"admin": {"tcp", listen("tcp", "127.0.0.1:0",
			func(l net.Listener) error { return h.Serve(f.Listener("admin", l)) })},
	}
	t.Cleanup(func() { s.Stop(); u.Stop(); h.Close(); done.Wait() })
	for listener, to := range at {
		for range 50 {
			if c, err := tls.Dial(to[0], to[1], &tls.Config{InsecureSkipVerify: true}); err == nil {
				c.Close()
				t.Fatalf("%s speaks TLS", listener)
			}
		}
		if n := f.Counts()[listener][TLS]; n != 50 {
			t.Errorf("%s: counted %d", listener, n)
		}
		var said []string
		for _, line := range strings.Split(lines.String(), "\n") {
			if strings.Contains(line, "listener="+listener) {
				said = append(said, line)
			}
		}
		remote := "remote=127.0.0.1:"
		if listener == "socket" {
			remote = socket
		}
		if len(said) != 1 || !strings.Contains(said[0], TLS.Words()) || !strings.Contains(said[0], remote) {
			t.Errorf("%s: %d lines:\n%s", listener, len(said), lines)
		}
	}
	for _, to := range []string{at["xds"][1], "unix:" + socket} {
		c, err := grpc.NewClient(to, grpc.WithTransportCredentials(insecure.NewCredentials()))
		testkit.Check(t, err)
		defer c.Close()
		err = c.Invoke(t.Context(), "/no/method", &emptypb.Empty{}, &emptypb.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("plaintext at %s: %v", to, err)
		}
	}
	resp, err := http.Get("http://" + at["admin"][1])
	testkit.Check(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
}

func TestAFloodOfFailuresIsBounded(t *testing.T) {
	t.Parallel()
	lines := &logged{}
	f := NewFailures(lines.logger())
	f.of("xds")
	fault := errors.New("tls: client didn't provide a certificate")
	for i := range 100_000 {
		f.add("xds", fmt.Sprintf("10.%d.%d.%d:4711", i>>16, i>>8&255, i&255), "", fault)
	}
	if n := strings.Count(lines.String(), "\n"); n < 20 || n > 60 {
		t.Errorf("%d lines", n)
	}
	if len(f.peers) > maxPeers || f.Counts()["xds"][NoCertificate] != 100_000 {
		t.Errorf("%d addresses are remembered, %v counted", len(f.peers), f.Counts())
	}
	// One that comes again and again does not use up what the others may say.
	quiet := &logged{}
	f = NewFailures(quiet.logger())
	f.of("xds")
	for range 1000 {
		f.add("xds", "10.0.0.1:4711", "", fault)
	}
	f.add("xds", "10.0.0.2:4711", "", fault)
	f.add("xds", "10.0.0.1:4711", "", errors.New("x509: certificate has expired or is not yet valid: now"))
	if n := strings.Count(quiet.String(), "\n"); n != 3 {
		t.Errorf("%d lines, want one for each address and reason:\n%s", n, quiet)
	}
	before, _, tell := f.due("xds", "10.0.0.1:4712", NoCertificate, time.Now().Add(2*repeatAfter))
	if !tell || before != 999 {
		t.Errorf("a minute later: %d before, told: %v", before, tell)
	}
}

func TestOtherLinesOfTheServerStayAsTheyAre(t *testing.T) {
	lines := &logged{}
	f := NewFailures(slog.New(slog.DiscardHandler))
	h := f.ErrorLog("admin", slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var l *log.Logger = slog.NewLogLogger(h, slog.LevelDebug)
	l.Print("http: superfluous response.WriteHeader call")
	if !strings.Contains(lines.String(), "superfluous") {
		t.Error(lines)
	}
	quiet := &logged{}
	slog.NewLogLogger(f.ErrorLog("admin", quiet.logger().Handler()), slog.LevelDebug).Print("a line")
	if quiet.String() != "" {
		t.Errorf("a line below the level of the log: %s", quiet)
	}
}

func TestTheOwnCertificatesEndIsKnownFromFilesAndFromTheWorkloadAPI(t *testing.T) {
	dir := t.TempDir()
	ca := identitytest.NewAuthority(t, "")
	write := func(life, left time.Duration) {
		t.Helper()
		until := time.Now().Add(left)
		cert, key := ca.SignUntil(&x509.Certificate{
			DNSNames: []string{"server.example"}, NotBefore: until.Add(-life),
		}, until)
		testkit.Check(t, errors.Join(
			os.WriteFile(filepath.Join(dir, "tls.key"), identitytest.KeyPEM(t, key), 0o600),
			os.WriteFile(filepath.Join(dir, "tls.crt"), identitytest.PEM(cert), 0o600),
			os.WriteFile(filepath.Join(dir, "ca.pem"), identitytest.PEM(ca.Cert), 0o600)))
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		life, left time.Duration
		says       string
	}{
		{365 * day, 31 * day, ""},
		{
			365 * day, 29 * day,
			"own certificate (server.example, " + dir + "/tls.crt) is near its end: it expires in 28d23h",
		},
		{90 * day, 31 * day, ""}, // 30 days or a third of a short lifetime: the smaller
		{30 * day, 11 * day, ""},
		{30 * day, 9 * day, "is near its end"},
		{time.Hour, 21 * time.Minute, ""},
		{time.Hour, 19 * time.Minute, "is near its end: it expires in 18m"},
		{time.Hour, -5 * time.Minute, "no node that connects now believes it: it expired 5m"},
	} {
		write(c.life, c.left)
		m, err := Open(filesIn(dir, filepath.Join(dir, "ca.pem")))
		testkit.Check(t, err)
		var said []string
		for _, p := range m.Problems(time.Now()) {
			if !strings.Contains(p.Error(), "a CA of") {
				said = append(said, p.Error())
			}
		}
		if all := strings.Join(said, "\n"); (c.says == "") != (all == "") || !strings.Contains(all, c.says) {
			t.Errorf("%s of %s left: %q, want %q", c.left, c.life, all, c.says)
		}
		m.Close()
	}

	fleet := identitytest.NewAuthority(t, "fleet.example")
	a, addr := startAgent(t)
	a.set(t, fleet, "fleet.example/lockstepd", nil)
	s, err := Open(Config{SPIFFESocket: addr, Log: slog.New(slog.DiscardHandler)})
	testkit.Check(t, err)
	defer s.Close()
	own := s.Certificates()
	if len(own) != 2 || own[0].Name != "spiffe://fleet.example/lockstepd" || own[1].What != ClientCA ||
		time.Until(own[0].NotAfter) > time.Hour {
		t.Errorf("%+v", own)
	}
	var none *MTLS
	if none.Certificates() != nil || none.Problems(time.Now()) != nil {
		t.Error("without mTLS there is nothing to renew")
	}
}

// A replaced file counts as soon as somebody asks, and the log tells of each change of state.
func TestTheLogTellsWhenTheOwnCertificateEndsAndWhenItIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := identitytest.NewAuthority(t, "")
	write := func(left time.Duration) {
		t.Helper()
		now := time.Now()
		names := []string{"server.example"}
		cert, key := ca.SignUntil(&x509.Certificate{DNSNames: names, NotBefore: now}, now.Add(left))
		for name, b := range map[string][]byte{
			"tls.key": identitytest.KeyPEM(t, key), "tls.crt": identitytest.PEM(cert),
			"ca.pem": identitytest.PEM(ca.Cert),
		} {
			testkit.Check(t, os.WriteFile(filepath.Join(dir, name+".new"), b, 0o600))
			testkit.Check(t, os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)))
		}
	}
	write(3 * time.Second)
	m, err := Open(filesIn(dir, filepath.Join(dir, "ca.pem")))
	testkit.Check(t, err)
	defer m.Close()
	lines := &logged{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.Watch(ctx, 50*time.Millisecond, lines.logger()) }()
	defer func() { stop(); <-done }()
	await := func(level, says string) {
		t.Helper()
		testkit.Until(t, func() error {
			for _, line := range strings.Split(lines.String(), "\n") {
				if strings.Contains(line, "level="+level) && strings.Contains(line, says) &&
					strings.Contains(line, "name=server.example") {
					return nil
				}
			}
			return fmt.Errorf("no line %s %q:\n%s", level, says, lines)
		})
	}
	await("INFO", "own certificate expires in")
	await("WARN", "own certificate expires in")
	await("ERROR", "own certificate expired")
	write(time.Hour)
	await("INFO", "own certificate expires in 59m")
}
