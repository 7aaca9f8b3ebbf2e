// Package client keeps a set of named resources of one type current over an incremental xDS
// stream.
//
// Its rules:
//
//   - It reconnects, and says which versions it holds already, so that nothing is sent twice.
//   - It acknowledges what was applied, and refuses what was not, with the reason.
//   - It never sends a first request without names, since that would ask for everything.
//
// It imports nothing of the server, and does not know what a resource means.
package client

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/lockstep-tls/lockstep/xds"
)

// Config is what a client needs. Everything but Method, Lost, Reached and Log is required.
type Config struct {
	// Conn is the connection. Its keepalive notices a server that is gone.
	Conn grpc.ClientConnInterface
	// Node is sent with the first request of each stream.
	Node *corev3.Node
	// Type is the type URL of the resources.
	Type string
	// Method is the full name of a bidirectional gRPC method of incremental xDS. If it is empty,
	// it is that of the aggregated service.
	Method string
	// Apply makes resources and removals take effect. If it returns nil, all of them are
	// acknowledged. If it returns an error, all are refused with its text, which the server shows
	// to people. The goroutine of Run calls it, one call at a time.
	Apply func(resources []*xds.Resource, removed []string) error
	// Lost, if it is set, gets why a stream ended or could not begin, instead of Log. Reached is
	// called with the first response of each stream. The goroutine of Run calls both.
	Lost    func(error)
	Reached func()
	// Log gets lost connections and refusals. If it is nil, nothing is logged.
	Log *slog.Logger
}

// A pause between two attempts is drawn from the upper half of a ceiling. The ceiling doubles from
// firstCeiling to lastCeiling, so a pause has 0.2 s to 2 s. It begins anew once a response came.
const (
	firstCeiling = 400 * time.Millisecond
	lastCeiling  = 2 * time.Second
)

// Client subscribes to resources by name.
type Client struct {
	cfg     Config
	applied map[string]string // name → version; owned by the goroutine of Run

	wake chan struct{} // capacity 1; ready when pending has something

	mu      sync.Mutex
	wanted  map[string]bool
	pending map[string]bool   // not sent yet: true to subscribe, false to unsubscribe
	held    map[string]string // name → version, of what the caller has from elsewhere

	live atomic.Bool
}

// New returns a client. Run starts it.
func New(c Config) *Client {
	if c.Method == "" {
		c.Method = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Reached == nil {
		c.Reached = func() {}
	}
	return &Client{
		cfg:     c,
		applied: make(map[string]string),
		wake:    make(chan struct{}, 1),
		wanted:  make(map[string]bool),
		pending: make(map[string]bool),
		held:    make(map[string]string),
	}
}

// Live reports whether there is a stream now. Then what was applied is current, except for what is
// under way. The connection's keepalive may not have noticed yet that the server is lost.
func (c *Client) Live() bool { return c.live.Load() }

// Hold says that the caller has a version of a name already, as if it had been applied. The next
// stream begins with it, and the server sends nothing if it is current.
func (c *Client) Hold(name, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[name] = version
}

// Subscribe asks for names, from now on and after each reconnect. If a name is subscribed already,
// it is asked for again, and the server answers again. Subscribe skips the empty name and "*",
// which would both mean everything. It skips a name that is not UTF-8, which cannot be sent. It
// never blocks, and any goroutine may call it at any time.
func (c *Client) Subscribe(names ...string) { c.want(true, names) }

// Unsubscribe ends what Subscribe began. The client forgets what it applied under the names. It
// does not call Apply.
func (c *Client) Unsubscribe(names ...string) { c.want(false, names) }

// want notes that names are to be subscribed (on) or unsubscribed, and wakes Run.
func (c *Client) want(on bool, names []string) {
	c.mu.Lock()
	for _, n := range names {
		if n == "" || n == "*" || !utf8.ValidString(n) {
			continue
		}
		if on {
			c.wanted[n] = true
		} else {
			delete(c.wanted, n)
		}
		c.pending[n] = on
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// changes takes what was asked for since the last call.
func (c *Client) changes() (subscribe, unsubscribe []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, on := range c.pending {
		if on {
			subscribe = append(subscribe, n)
		} else {
			unsubscribe = append(unsubscribe, n)
			delete(c.applied, n)
		}
	}
	clear(c.pending)
	return subscribe, unsubscribe
}

// all returns every name that is wanted, for the first request of a stream. held has the versions
// of those that were applied.
func (c *Client) all() (names []string, held map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.pending)
	for n, version := range c.held {
		if c.applied[n] == "" {
			c.applied[n] = version
		}
	}
	clear(c.held)
	for n := range c.applied {
		if !c.wanted[n] {
			delete(c.applied, n)
		}
	}
	for n := range c.wanted {
		names = append(names, n)
	}
	return names, maps.Clone(c.applied)
}

// dropUnwanted drops the resources that are not wanted any more.
func (c *Client) dropUnwanted(resources []*xds.Resource) []*xds.Resource {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(resources, func(r *xds.Resource) bool { return !c.wanted[r.Name] })
}

// Run keeps the subscription until ctx ends, and then returns nil. It must not be called twice.
func (c *Client) Run(ctx context.Context) error {
	ceiling := firstCeiling
	for ctx.Err() == nil {
		names, held := c.all()
		if len(names) == 0 { // a first request without names would mean everything
			select {
			case <-c.wake:
			case <-ctx.Done():
			}
			continue
		}
		answered, err := c.session(ctx, names, held)
		if ctx.Err() != nil {
			break
		}
		if answered {
			ceiling = firstCeiling
		}
		pause := ceiling/2 + rand.N(ceiling/2)
		if c.cfg.Lost != nil {
			c.cfg.Lost(err)
		} else {
			c.cfg.Log.Warn("xDS stream ended; connecting again", "type", c.cfg.Type, "error", err, "after", pause)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		ceiling = min(2*ceiling, lastCeiling)
	}
	return nil
}

// errEnded means that the server closed the stream without an error.
var errEnded = errors.New("the server closed the stream")
