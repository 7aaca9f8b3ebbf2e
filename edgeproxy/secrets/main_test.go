package secrets

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plane is the real server of secrets on a port, with certificates and rings by hand.
type plane struct {
	*testing.T
	ca    *fleet.CA
	table *sds.Table
	addr  string
	stop  func()
	reads atomic.Int64

	mu     sync.Mutex
	certs  map[keysource.Name]keysource.Certificate
	hangs  map[keysource.Name]bool
	rings  map[string]*keysource.Ring
	events []xds.Event
}

// Certificate implements [keysource.Source].
func (p *plane) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	p.reads.Add(1)
	p.mu.Lock()
	c, ok := p.certs[n]
	hangs := p.hangs[n]
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return keysource.Certificate{}, ctx.Err()
	}
	if !ok {
		return keysource.Certificate{}, keysource.ErrNotExist
	}
	return c, nil
}

// Ring is what the table asks for rings.
func (p *plane) Ring(_ uint64, scope string) (*keysource.Ring, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rings[scope], false
}

func (p *plane) observe(e xds.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// issue puts a new certificate for name under it, and returns its version.
func (p *plane) issue(name string, names ...string) string {
	p.Helper()
	return p.put(name, fleet.Leaf{Names: append(names, name)})
}

func (p *plane) put(name string, l fleet.Leaf) string {
	p.Helper()
	pair, err := p.ca.Issue(l)
	check(p.T, err)
	c, err := keysource.ParseCertificate(keysource.PEM{Chain: pair.Chain, Key: pair.Key}, time.Time{})
	check(p.T, err)
	p.set(keysource.Name(name), &c)
	return c.Version()
}

// set puts what is not checked; nil removes.
func (p *plane) set(n keysource.Name, c *keysource.Certificate) {
	p.mu.Lock()
	if c == nil {
		delete(p.certs, n)
	} else {
		p.certs[n] = *c
	}
	p.mu.Unlock()
	p.table.Refresh([]keysource.Name{n})
}

// turn puts a ring of the generation for scope.
func (p *plane) turn(scope string, generation uint64) keysource.Ring {
	r := keysource.Ring{Generation: generation,
		Keys: []keysource.TicketKey{keysource.NewTicketKey(), keysource.NewTicketKey()}}
	p.mu.Lock()
	p.rings[scope] = &r
	p.mu.Unlock()
	p.table.RefreshRing(scope, nil)
	return r
}

// saw counts the events of a kind and a name.
func (p *plane) saw(kind xds.Kind, name string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Kind == kind && e.Name == name {
			n++
		}
	}
	return n
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	ca, err := fleet.NewCA("secrets")
	check(t, err)
	p := &plane{T: t, ca: ca, certs: map[keysource.Name]keysource.Certificate{}, hangs: map[keysource.Name]bool{},
		rings: map[string]*keysource.Ring{}}
	p.table = sds.NewTable(sds.Config{Sources: keysource.Sources{p}, Rings: p, Log: slog.New(slog.DiscardHandler)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.table.Run(ctx) })
	gs := grpc.NewServer(server.Options()...)
	sds.Register(gs, server.New(server.Config{
		Types: map[string]xds.Resources{sds.TypeURL: p.table}, Observe: p.observe, Log: slog.New(slog.DiscardHandler),
	}))
	wg.Go(func() { _ = gs.Serve(ln) })
	p.stop = sync.OnceFunc(func() { gs.Stop() })
	t.Cleanup(func() {
		p.stop()
		cancel()
		wg.Wait()
	})
	return p
}

// edge is what a proxy has of its secrets.
type edge struct {
	*Secrets
	mu   sync.Mutex
	used map[string][]string // scope → versions, in order
	fail error
}

// edge connects one to the plane.
func (p *plane) edge(c Config) *edge {
	p.Helper()
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(p.T, err)
	e := &edge{used: map[string][]string{}}
	c.Conn, c.Node = conn, &corev3.Node{Id: "edge-1", UserAgentName: xds.EdgeAgent}
	if c.Scopes == nil {
		c.Scopes = []string{"default"}
	}
	if c.Names == 0 {
		c.Names = 1000
	}
	if c.Wait == 0 {
		c.Wait = 5 * time.Second
	}
	c.Ring = func(scope string, r keysource.Ring) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.fail == nil {
			e.used[scope] = append(e.used[scope], r.Version())
		}
		return e.fail
	}
	e.Secrets = New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	p.Cleanup(func() {
		cancel()
		check(p.T, <-ended)
		conn.Close()
	})
	return e
}

func (e *edge) uses(scope string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if all := e.used[scope]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// serves returns the serial number of what is served under name.
func (e *edge) serves(t *testing.T, name string) string {
	t.Helper()
	c, err := e.Certificate(t.Context(), keysource.Name(name))
	if err != nil {
		return err.Error()
	}
	return c.Leaf.SerialNumber.String()
}

// soon waits until yes.
func soon(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !yes(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func host(i int) string { return fmt.Sprintf("h%06d.example", i) }
