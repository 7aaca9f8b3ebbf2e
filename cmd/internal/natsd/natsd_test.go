package natsd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/cmd/internal/natsd"
)

const token = "client-token-0123456789"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server until the test ends.
func start(t *testing.T, c natsd.Config) *natsd.Server {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s, err := natsd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-result:
		result <- nil
		t.Fatal(err)
	}
	return s
}

// own returns one of lockstepd's own connections.
func own(t *testing.T, connect func() (*nats.Conn, error)) *nats.Conn {
	t.Helper()
	conn, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	for end := time.Now().Add(5 * time.Second); !conn.IsConnected(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not connected: %v", conn.LastError())
		}
	}
	return conn
}

func flush(t *testing.T, conn *nats.Conn) {
	t.Helper()
	if err := conn.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestConnectBeforeRun(t *testing.T) {
	s, err := natsd.New(natsd.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make(chan string, 1)
	if _, err := conn.Subscribe("lockstep.events.>", func(m *nats.Msg) { got <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- s.Run(ctx) }()
	if err := conn.Publish("lockstep.events.rotation.default", []byte("early")); err != nil {
		t.Fatal(err)
	}
	if words := <-got; words != "early" {
		t.Errorf("got %q", words)
	}
	if a := s.Addr(); a != nil {
		t.Errorf("it listens on %v, and nobody asked for that", a)
	}
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestRunOfACancelledContext(t *testing.T) {
	s, err := natsd.New(natsd.Config{Listen: "127.0.0.1:0", Token: token, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		config natsd.Config
		want   string
	}{
		{natsd.Config{Listen: "127.0.0.1:0"}, "token"},
		{natsd.Config{Listen: "127.0.0.1:0", Token: "short"}, "16 bytes"},
		{natsd.Config{Listen: "127.0.0.1", Token: token}, "127.0.0.1:4222"},
		{natsd.Config{Listen: "127.0.0.1:http", Token: token}, "127.0.0.1:4222"},
		{natsd.Config{Listen: "127.0.0.1:70000", Token: token}, "no such port"},
		{natsd.Config{Listen: "0.0.0.0:0", Token: token}, "give TLS files"},
		{natsd.Config{Listen: ":0", Token: token}, "give TLS files"},
		{natsd.Config{Listen: "[::]:0", Token: token}, "give TLS files"},
		{natsd.Config{Listen: "192.0.2.1:4222", Token: token}, "give TLS files"},
		{natsd.Config{Listen: "nats.example:4222", Token: token}, "give TLS files"},
		{natsd.Config{Listen: "0.0.0.0:0", Token: token, TLS: &tls.Config{}}, ""},
		{natsd.Config{Listen: "127.0.0.9:0", Token: token}, ""},
		{natsd.Config{Listen: "[::1]:0", Token: token}, ""},
		{natsd.Config{Listen: "localhost:0", Token: token}, ""},
	} {
		c.config.Log = slog.New(slog.DiscardHandler)
		_, err := natsd.New(c.config)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with token %q: %v, want %q", c.config.Listen, c.config.Token, err, c.want)
		}
		if err != nil && c.config.Token != "" && strings.Contains(err.Error(), c.config.Token) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

func TestATakenAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := natsd.New(natsd.Config{Listen: l.Addr().String(), Token: token, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), l.Addr().String()) ||
		!strings.Contains(err.Error(), "in use") {
		t.Errorf("Run = %v, want an error that names the address", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v to say so", took)
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	s := start(t, natsd.Config{Listen: "127.0.0.1:0", Token: token, TLS: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}})
	flush(t, own(t, s.Connect)) // without TLS: it is in the process
	conn, err := nats.Connect("tls://"+token+"@"+s.Addr().String(), nats.Secure(&tls.Config{RootCAs: roots}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	flush(t, conn)
	if plain, err := nats.Connect("nats://"+s.Addr().String(), nats.Token(token), nats.Secure(&tls.Config{}),
		nats.Timeout(5*time.Second)); err == nil {
		plain.Close()
		t.Error("connected without trusting the certificate")
	}
}

func TestNoTokenInTheLog(t *testing.T) {
	var mu sync.Mutex
	var b bytes.Buffer
	w := writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return b.Write(p) })
	s := start(t, natsd.Config{
		Listen: "127.0.0.1:0", Token: token,
		Log: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	for _, given := range []string{token, "wrong-token-9876543210"} {
		if conn, err := nats.Connect("nats://" + given + "@" + s.Addr().String()); err == nil {
			flush(t, conn)
			conn.Close()
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if said := b.String(); strings.Contains(said, token) || strings.Contains(said, "wrong-token") ||
		!strings.Contains(said, "authentication error") {
		t.Errorf("the log: %s", said)
	}
	if said := b.String(); strings.Contains(said, "level=INFO") || strings.Contains(said, "level=WARN") {
		t.Errorf("the server's log is not at debug: %s", said)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestAStopLogsNoWarning(t *testing.T) {
	var mu sync.Mutex
	var b bytes.Buffer
	w := writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return b.Write(p) })
	s, err := natsd.New(natsd.Config{Log: slog.New(slog.NewTextHandler(w, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	disconnected := make(chan struct{})
	conn := own(t, s.Connect)
	conn.SetDisconnectErrHandler(func(*nats.Conn, error) { close(disconnected) })
	var publishing sync.WaitGroup
	publishing.Go(func() { // so that a write meets the closed pipe
		for ctx.Err() == nil || conn.IsConnected() {
			_ = conn.Publish("lockstep.events.cert.a", []byte("x"))
		}
	})
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Run = %v", err)
	}
	<-disconnected
	publishing.Wait()
	conn.Close()
	mu.Lock()
	defer mu.Unlock()
	if said := b.String(); strings.Contains(said, "level=WARN") {
		t.Errorf("the log: %s", said)
	}
}
