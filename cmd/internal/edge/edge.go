package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/lockstep-tls/lockstep/edgeproxy"
	"github.com/lockstep-tls/lockstep/edgeproxy/lastgood"
	"github.com/lockstep-tls/lockstep/edgeproxy/secrets"
	"github.com/lockstep-tls/lockstep/keysource"
)

// Edge is one process of lockstep-edge.
type Edge struct {
	cfg      Config
	log      *slog.Logger
	conn     *grpc.ClientConn
	proxy    *edgeproxy.Proxy
	secrets  *secrets.Secrets
	registry *prometheus.Registry
	copy     *lastgood.Keeper // nil: none

	mu    sync.Mutex
	state state
}

// New reads the files that c names, and opens nothing. Requests are logged to access.
func New(c Config, log, access *slog.Logger) (*Edge, error) {
	conn, err := dial(c)
	if err != nil {
		return nil, err
	}
	e := &Edge{cfg: c, log: log, conn: conn, registry: prometheus.NewRegistry()}
	e.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	pc, err := c.proxy()
	if err != nil {
		return nil, err
	}
	if c.AccessLog == "off" {
		access = slog.New(slog.DiscardHandler)
	}
	preload, err := c.preload()
	if err != nil {
		return nil, err
	}
	e.secrets = secrets.New(secrets.Config{
		Conn: conn, Node: &corev3.Node{Id: c.Node, Cluster: c.Cluster, UserAgentName: "lockstep-edge"},
		Scopes: pc.Scopes(), Preload: preload, Names: c.Limits.Names, Wait: c.Timeouts.Load,
		Ring: e.use, Log: log,
	})
	if e.proxy, err = edgeproxy.New(pc, edgeproxy.Options{Certificates: e.secrets, Log: log, Access: access, Registry: e.registry}); err != nil {
		return nil, err
	}
	e.measure()
	return e, e.openCopy()
}

// Run serves until ctx ends, and then lets requests end.
func (e *Edge) Run(ctx context.Context) error {
	defer e.conn.Close()
	lns, err := e.listen()
	if err != nil {
		return err
	}
	defer closeAll(lns)
	g, ctx := errgroup.WithContext(ctx)
	e.restore()
	asking, stop := context.WithCancel(context.Background())
	g.Go(func() error { return e.secrets.Run(asking) })
	g.Go(func() error {
		defer stop() // requests that end slowly need no secrets, but handshakes that have begun do
		return e.proxy.Run(ctx, lns)
	})
	g.Go(func() error { return e.admin(ctx) })
	g.Go(func() error { return e.keep(ctx) })
	g.Go(func() error {
		select {
		case <-e.secrets.Ready():
			e.become(ready)
			e.log.Info("ready", "listeners", len(lns))
		case <-ctx.Done():
		}
		<-ctx.Done()
		e.become(draining)
		return nil
	})
	return g.Wait()
}

// listen opens the listeners, in the order of the configuration.
func (e *Edge) listen() (lns []net.Listener, err error) {
	for i, l := range e.cfg.Listeners {
		ln, err := net.Listen("tcp", l.Address)
		if err != nil {
			closeAll(lns)
			return nil, fmt.Errorf("listeners[%d]: %w", i, err)
		}
		e.log.Info("listening", "address", ln.Addr().String(), "scope", l.Scope)
		lns = append(lns, ln)
	}
	return lns, nil
}

func closeAll[C io.Closer](all []C) {
	for _, c := range all {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			continue // closing is what ends it
		}
	}
}

// use is told of a ring, and returns when every new handshake uses it.
func (e *Edge) use(scope string, r keysource.Ring) error {
	if err := e.proxy.Use(scope, r); err != nil {
		return err
	}
	e.log.Info("ticket keys in use", "scope", scope, "version", r.Version())
	return nil
}
