package edgeproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/edgeproxy/ticket"
	"github.com/lockstep-tls/lockstep/keysource"
)

// Certificates are what the proxy serves. Both methods are safe for concurrent use.
type Certificates interface {
	// Certificate returns what to serve under n, with its Leaf. It may block until ctx ends. The
	// error wraps [keysource.ErrNotExist] if it is known that there is none.
	Certificate(ctx context.Context, n keysource.Name) (*tls.Certificate, error)
	// Serves reports whether there is a certificate for n. It returns false only if it is known
	// that there is none. It may block for a moment.
	Serves(n keysource.Name) bool
}

// Proxy serves the listeners of its configuration.
type Proxy struct {
	cfg       Config
	opts      Options
	listeners []*listener
	router    router
	upstreams []*upstream
	metrics   *metrics
	buffers   buffers
	// failures limits the lines of handshakes that fail, complaints those of net/http.
	failures   *failures
	complaints *complaints

	requests context.Context // the parent of every request's context
	abort    context.CancelFunc
	active   sync.WaitGroup // requests, including those that became something else (WebSocket)
}

// Options are what a proxy gets from its program. All are required.
type Options struct {
	Certificates Certificates
	Log          *slog.Logger
	Access       *slog.Logger // one line for each request
	Registry     prometheus.Registerer
}

// New returns a proxy, and reads the files that c names. It opens nothing. The error wraps
// ErrBadConfig.
func New(c Config, o Options) (*Proxy, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	p := &Proxy{cfg: c, opts: o, metrics: newMetrics(o.Registry), failures: newFailures(),
		complaints: newComplaints(o.Log)}
	p.requests, p.abort = context.WithCancel(context.Background())
	for i, r := range c.Routes {
		host, err := hostPattern(r.Host)
		if err != nil {
			return nil, err
		}
		u, err := newUpstream(r, i, c.Timeouts)
		if err != nil {
			return nil, err
		}
		p.upstreams = append(p.upstreams, u)
		p.router.add(host, r.Path, p.forward(u))
	}
	for i, l := range c.Listeners {
		listener, err := p.newListener(l)
		if err != nil {
			return nil, fmt.Errorf("listeners[%d]: %w", i, err)
		}
		p.listeners = append(p.listeners, listener)
	}
	return p, nil
}

// Use brings a ring into use on the listeners of scope. Every handshake that begins after Use has
// returned uses it.
func (p *Proxy) Use(scope string, r keysource.Ring) error {
	k, err := ticket.Derive(scope, r)
	if err != nil {
		return err
	}
	for _, l := range p.listeners {
		if l.Scope == scope {
			l.use(k)
		}
	}
	return nil
}

// Run serves lns, one for each of Config.Listeners in that order, until ctx ends. Then it accepts
// nothing more, lets requests go on for Timeouts.Drain, and ends the rest.
func (p *Proxy) Run(ctx context.Context, lns []net.Listener) error {
	defer p.abort()
	g, serving := errgroup.WithContext(ctx)
	for i, l := range p.listeners {
		l.open(lns[i])
		g.Go(l.serve)
	}
	g.Go(func() error {
		<-serving.Done()
		p.drain()
		return nil
	})
	err := g.Wait()
	for _, u := range p.upstreams {
		u.close()
	}
	return err
}

// drain ends the servers.
func (p *Proxy) drain() {
	late, cancel := context.WithTimeout(context.Background(), p.cfg.Timeouts.Drain)
	defer cancel()
	defer context.AfterFunc(late, p.abort)() // remaining requests end with their context
	var g sync.WaitGroup
	for _, l := range p.listeners {
		g.Go(func() {
			if err := l.stop(late); err != nil && !errors.Is(err, http.ErrServerClosed) {
				p.opts.Log.Warn("requests were cut off", "listener", l.Address, "after", p.cfg.Timeouts.Drain)
				p.abort()
				time.Sleep(abortGrace)
				l.http1.Close()
				l.http2.Close()
			}
		})
	}
	g.Wait()
	p.active.Wait() // requests that became something else; they end when late does
}

// abortGrace is how long handlers have to end a request whose context has ended, before its
// connection is closed.
const abortGrace = 100 * time.Millisecond
