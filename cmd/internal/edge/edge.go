package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/lockstep-tls/lockstep/cmd/internal/version"
	"github.com/lockstep-tls/lockstep/edgeproxy"
	"github.com/lockstep-tls/lockstep/edgeproxy/lastgood"
	"github.com/lockstep-tls/lockstep/edgeproxy/secrets"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Edge is one process of lockstep-edge.
type Edge struct {
	cfg      Config
	log      *slog.Logger
	conn     *grpc.ClientConn
	proxy    *edgeproxy.Proxy
	secrets  *secrets.Secrets
	registry *prometheus.Registry
	copy     *lastgood.Keeper // copy is nil if there is none.
	old      lastgood.Rings   // old are those of the copy at the start.

	// open are all listeners, by their addresses in the configuration.
	open          map[string]net.Listener
	listeners     []net.Listener
	adminListener net.Listener // adminListener is nil if there is none.
	// before is a connection to the process that handed over to this one. It ends with that
	// process. It is nil if there was none.
	before *os.File

	hangup <-chan os.Signal // hangup is nil if SIGHUP means nothing.
	file   string           // file is the path of the configuration.
	load   func() (Config, error)

	served atomic.Bool // served is true once it was ready.

	mu    sync.Mutex
	state state
}

// New reads the files that c names, and opens nothing. Requests are logged to access.
func New(c Config, log, access *slog.Logger) (*Edge, error) {
	e, err := assemble(c, log, access)
	if err != nil {
		return nil, err
	}
	return e, e.openCopy()
}

// assemble puts the parts together, but for the last-good copy. It makes nothing.
func assemble(c Config, log, access *slog.Logger) (*Edge, error) {
	conn, err := dial(c)
	if err != nil {
		return nil, err
	}
	e := &Edge{cfg: c, log: log, conn: conn, registry: prometheus.NewRegistry()}
	e.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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
	control := &link{log: log, xds: strings.Join(c.endpoints(), ","), tls: c.XDSCert != ""}
	e.secrets = secrets.New(secrets.Config{
		Conn: conn, Node: &corev3.Node{
			Id: c.Node, Cluster: c.Cluster, UserAgentName: xds.EdgeAgent,
			UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: version.Get().Short()},
		},
		Scopes: pc.Scopes(), Preload: preload, Names: c.Limits.Names, Wait: c.Timeouts.Load,
		Ring: e.use, Lost: control.lost, Reached: control.reached, Log: log,
	})
	if e.proxy, err = edgeproxy.New(pc, edgeproxy.Options{Certificates: e.secrets, Log: log, Access: access,
		Registry: e.registry}); err != nil {
		return nil, err
	}
	e.measure()
	return e, nil
}

// Run serves until ctx ends, or until a new process has taken over, and then lets requests end.
func (e *Edge) Run(ctx context.Context) error {
	defer e.conn.Close()
	if err := e.listen(); err != nil {
		return err
	}
	defer e.closeAll()
	e.restore()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	g, ctx := errgroup.WithContext(ctx)
	asking, stop := context.WithCancel(context.Background())
	g.Go(func() error { return e.secrets.Run(asking) })
	g.Go(func() error {
		defer stop() // handshakes that have begun still need secrets, slow requests do not
		e.hold(ctx)
		if err := e.proxy.Run(ctx, e.listeners); err != nil {
			return err
		}
		e.outlast()
		return nil
	})
	g.Go(func() error { return e.admin(ctx) })
	g.Go(func() error { return e.keep(ctx) })
	g.Go(func() error { e.watchExpiry(ctx); return nil })
	g.Go(func() error { return e.succeed(ctx, asking.Done(), leave) })
	g.Go(func() error {
		select {
		case <-e.secrets.Ready():
			e.become(ready)
			e.served.Store(true)
			e.log.Info("ready", "listeners", len(e.listeners))
			e.answer()
		case <-ctx.Done():
			e.refuse()
		}
		<-ctx.Done()
		e.become(draining)
		return nil
	})
	err := g.Wait()
	if err != nil && e.served.Load() {
		e.log.Error("the edge ends", "error", err)
		err = fmt.Errorf("%w: %w", ErrLogged, err)
	}
	return err
}

// ErrLogged means that the log has the error with which a process ends that was ready. A start that
// is refused is not in the log, but on the terminal.
var ErrLogged = errors.New("logged")

// acceptAfter is how long clients of a starting process wait, so that their sessions resume. It is
// a little longer than the copy's rings take.
const acceptAfter = answerWithin + time.Second

// hold waits for ticket keys before the first connection is accepted. Clients wait in the queues of
// the sockets meanwhile. Without keys there are no tickets, and those that clients have would be
// declined. If another process serves until this one is ready, hold waits as long as it takes.
func (e *Edge) hold(ctx context.Context) {
	var late <-chan time.Time
	if e.before == nil {
		late = time.After(acceptAfter)
	}
	select {
	case <-e.secrets.Ready():
	case <-late:
	case <-ctx.Done():
	}
}

// listen opens the listeners, in the order of the configuration, and the admin listener. It uses
// those that were handed over.
func (e *Edge) listen() error {
	given, before, err := inherit()
	if err != nil {
		return err
	}
	e.before = before
	e.open = make(map[string]net.Listener)
	for i, l := range e.cfg.Listeners {
		ln, err := given.listen(l.Address)
		if err != nil {
			e.closeAll()
			return fmt.Errorf("listeners[%d].address: %w", i, taken(err))
		}
		e.log.Info("listening", "address", ln.Addr().String(), "scope", l.Scope)
		e.listeners, e.open[l.Address] = append(e.listeners, ln), ln
	}
	if at := e.cfg.AdminListen; at != "" {
		if e.adminListener, err = given.listen(at); err != nil {
			e.closeAll()
			return fmt.Errorf("admin_listen: %w", taken(err))
		}
		e.open[at] = e.adminListener
	}
	if unused := given.close(); len(unused) > 0 {
		e.log.Warn("sockets that were given are not in the configuration, and are closed", "addresses", unused)
	}
	return nil
}

// taken says what an address means on which another process listens.
func taken(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another process of this machine listens there, perhaps another edge: "+
			"give this one an address of its own", err)
	}
	return err
}

func (e *Edge) closeAll() {
	for _, ln := range e.open {
		ln.Close() // whoever served them has closed most of them already
	}
}

// use takes a ring into use. When it returns, every new handshake uses the ring, and the keys that
// it lost cannot come back by a restart. The control plane relies on both.
func (e *Edge) use(scope string, r keysource.Ring) error {
	if err := e.proxy.Use(scope, r); err != nil {
		return err
	}
	e.spend(scope, r)
	e.log.Info("ticket keys in use", "scope", scope, "version", r.Version())
	return nil
}
