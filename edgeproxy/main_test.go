package edgeproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestMain(m *testing.M) {
	if order := os.Getenv(idleClients); order != "" {
		if err := keepIdle(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// held is what a proxy serves here.
type held struct {
	mu    sync.Mutex
	certs map[keysource.Name]*tls.Certificate
	hangs keysource.Name // of this one nothing is heard
	asked int            // how often it was asked for
}

func (h *held) Certificate(ctx context.Context, n keysource.Name) (*tls.Certificate, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch n {
	case "away.example":
		return nil, errors.New("the control plane does not answer")
	case "panic.example":
		panic("on purpose")
	}
	if n != "" && n == h.hangs {
		h.asked++
		h.mu.Unlock()
		<-ctx.Done()
		h.mu.Lock()
		return nil, ctx.Err()
	}
	for _, n := range []keysource.Name{n, n.Wildcard()} {
		if c := h.certs[n]; c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no certificate for %s: it %w", n, keysource.ErrNotExist)
}

func (h *held) Serves(n keysource.Name) bool {
	_, err := h.Certificate(context.Background(), n)
	return err == nil
}

// rig is a proxy that runs on loopback.
type rig struct {
	testing.TB
	proxy *Proxy
	ca    *fleet.CA
	held  *held
	addrs []string
	stop  func()      // ends the proxy, and waits for it
	log   *syncBuffer // log is of requests.
	own   *syncBuffer // own is of the proxy itself.
	count func(metric string) float64
	// labelled counts what has a label with that value.
	labelled func(metric, value string) float64
}

const shop = "shop.example"

// run starts a proxy of c whose listeners, which need no address, serve shop.example and
// *.example.org with a ring of two keys.
func run(t testing.TB, c Config) *rig {
	t.Helper()
	r := &rig{TB: t, ca: ca(t, "edge"), held: &held{certs: map[keysource.Name]*tls.Certificate{}},
		log: new(syncBuffer), own: new(syncBuffer)}
	r.serve(shop)
	r.serve("*.example.org")
	for i := range c.Listeners {
		l := &c.Listeners[i]
		l.Address = "127.0.0.1:0"
		if l.Scope == "" {
			l.Scope = "default"
		}
		if l.MinVersion == "" {
			l.MinVersion = "1.2"
		}
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits()
	}
	if c.Timeouts == (Timeouts{}) {
		c.Timeouts = DefaultTimeouts()
	}
	registry := prometheus.NewRegistry()
	r.count = func(metric string) float64 { return r.labelled(metric, "") }
	r.labelled = func(metric, value string) (n float64) {
		all, err := registry.Gather()
		check(t, err)
		for _, family := range all {
			for _, m := range family.GetMetric() {
				labels := m.GetLabel()
				if family.GetName() == metric && (value == "" || len(labels) == 1 && labels[0].GetValue() == value) {
					n += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
		return n
	}
	p, err := New(c, Options{
		Certificates: r.held,
		Log:          slog.New(slog.NewJSONHandler(r.own, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Access:       slog.New(slog.NewJSONHandler(r.log, nil)), Registry: registry,
	})
	check(t, err)
	ring := keysource.Ring{Generation: 1,
		Keys: []keysource.TicketKey{keysource.NewTicketKey(), keysource.NewTicketKey()}}
	for _, scope := range c.Scopes() {
		// the same ring, so that nothing but the scope keeps tickets apart
		check(t, p.Use(scope, ring))
	}
	var lns []net.Listener
	for range c.Listeners {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		lns, r.addrs = append(lns, ln), append(r.addrs, ln.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, lns) }()
	r.proxy = p
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			check(t, err)
		case <-time.After(20 * time.Second):
			t.Error("the proxy does not end")
		}
	})
	t.Cleanup(r.stop)
	return r
}

// serve gives the proxy a certificate for name.
func (r *rig) serve(name string) {
	r.Helper()
	leaf := fleet.Leaf{Names: []string{name}}
	if net.ParseIP(name) != nil {
		leaf = fleet.Leaf{IPs: []string{name}}
	}
	pair, err := r.ca.Issue(leaf)
	check(r.TB, err)
	c, err := tls.X509KeyPair(pair.Chain, pair.Key)
	check(r.TB, err)
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	r.held.certs[keysource.Name(name)] = &c
}

// client is one whose connections go to the listener i, whatever the host.
func (r *rig) client(i int, more func(*tls.Config)) *http.Client {
	c := &tls.Config{RootCAs: r.ca.Pool()}
	if more != nil {
		more(c)
	}
	t := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", r.addrs[i])
		}}
	r.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func ca(t testing.TB, name string) *fleet.CA {
	t.Helper()
	c, err := fleet.NewCA(name)
	check(t, err)
	return c
}

// clientCA writes the CA to a file.
func clientCA(t testing.TB, c *fleet.CA) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(file, c.PEM(), 0o600))
	return file
}

// person is a client certificate.
func person(t testing.TB, c *fleet.CA, name string) tls.Certificate {
	t.Helper()
	pair, err := c.Issue(fleet.Leaf{Names: []string{name}})
	check(t, err)
	out, err := tls.X509KeyPair(pair.Chain, pair.Key)
	check(t, err)
	out.Leaf, err = x509.ParseCertificate(out.Certificate[0])
	check(t, err)
	return out
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, p...)
	return len(p), nil
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.b)
}
