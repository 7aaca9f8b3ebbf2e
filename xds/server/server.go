package server

import (
	"context"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

// Config is what a server needs. Only Types is required.
type Config struct {
	// Types holds what is served, by type URL.
	Types map[string]xds.Resources
	// Observe is told each event, synchronously and in order, while the stream stands still: it must not block, nor ask the server for the
	// stream, and is called for many streams at once.
	Observe func(xds.Event)
	// Identity returns who the peer of an incoming stream is, as the transport proved it. Nil: nobody is known.
	Identity func(context.Context) string
	// OnDemand is a type, of Types, whose names nodes ask for on the aggregated service as clients come, and have no other bound: each resource carries
	// a TTL ([xds.Resource.TTL]), and a node that holds more than Hold (default 20 000) is made to let go of those that it was sent first, 50 a second
	// at most. It unsubscribes from those then, and asks again when a client does; what it stays subscribed to it gets back, for good. Empty: none.
	//
	// HoldGroup (default 1000) is how many of a group ([xds.Resource.Group]) it may hold. Beyond that the group's oldest give way, 50 a second at most, to as many
	// new ones, and to those that gave way in the last minutes and are asked for again, which may be twice as many as the group may hold; the others are
	// called absent.
	OnDemand  string
	Hold      int
	HoldGroup int
	// Log gets what an operator should look into. Nil: nowhere.
	Log *slog.Logger
}

// Server serves xDS streams. Its methods are safe for concurrent use.
type Server struct {
	env      *environment
	identity func(context.Context) string

	pushers pushers

	drained  sync.Once
	draining chan struct{} // closed by Drain

	mu      sync.Mutex
	refuse  time.Time // new streams until then
	last    uint64    // number of the newest stream
	streams map[uint64]*stream
}

// New returns a server; it starts nothing.
func New(c Config) *Server {
	if c.Observe == nil {
		c.Observe = func(xds.Event) {}
	}
	if c.Identity == nil {
		c.Identity = func(context.Context) string { return "" }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	bounds := defaults
	if c.Hold > 0 {
		bounds.held = c.Hold
	}
	if c.HoldGroup > 0 {
		bounds.grouped = c.HoldGroup
	}
	return &Server{
		env:      &environment{types: maps.Clone(c.Types), observe: c.Observe, log: c.Log, limits: bounds, onDemand: c.OnDemand},
		identity: c.Identity,
		draining: make(chan struct{}),
		streams:  make(map[uint64]*stream),
		pushers:  pushers{most: runtime.GOMAXPROCS(0)},
	}
}

// Delta serves an incremental stream until it ends. defaultType is the one type of the service, or empty on ADS. The error is
// a gRPC status.
func (s *Server) Delta(gs grpc.ServerStream, svc xds.Service, defaultType string) error {
	st, err := s.open(gs, svc, defaultType)
	if err != nil {
		return err
	}
	return serve[discoveryv3.DeltaDiscoveryRequest](st, st.m.delta)
}

// SotW serves a state-of-the-world stream, as Delta does an incremental one.
func (s *Server) SotW(gs grpc.ServerStream, svc xds.Service, defaultType string) error {
	st, err := s.open(gs, svc, defaultType)
	if err != nil {
		return err
	}
	st.m.sotw = true
	return serve[discoveryv3.DiscoveryRequest](st, st.m.stateOfTheWorld)
}

// Drain ends all streams, at once, and refuses new ones with UNAVAILABLE: nodes go to another replica. (What ends a stream from outside reaches
// the node as CANCELLED: gRPC writes that itself when a handler's RecvMsg is interrupted. The reason is in the Closed event.)
func (s *Server) Drain() {
	s.drained.Do(func() { close(s.draining) })
	for _, st := range s.all() {
		st.end(errDraining)
	}
}

var errDraining = status.Error(codes.Unavailable, "the server is going down: connect to another one")

// Dismiss ends all streams, and refuses new ones with UNAVAILABLE for that long: nodes that can go to another replica. It returns how many streams
// it ended.
func (s *Server) Dismiss(d time.Duration) int {
	s.mu.Lock()
	s.refuse = time.Now().Add(d)
	s.mu.Unlock()
	all := s.all()
	for _, st := range all {
		st.end(errDismissed)
	}
	return len(all)
}

var errDismissed = status.Error(codes.Unavailable, "this replica is cut off from the others: connect to another one")

func (s *Server) open(gs grpc.ServerStream, svc xds.Service, only string) (*stream, error) {
	ctx := gs.Context()
	if only != "" && s.env.types[only] == nil {
		return nil, status.Errorf(codes.Unimplemented, "type %q is not served here", only)
	}
	select {
	case <-s.draining:
		return nil, errDraining
	default:
	}
	abort, err := canceller(ctx)
	if err != nil {
		return nil, err
	}
	st := &stream{s: s, gs: gs, since: time.Now(), abort: abort, m: &machine{env: s.env, only: only, node: s.peer(ctx, svc)}}
	st.m.box = xds.NewWakingMailbox(func() { s.pushers.add(st) })
	s.mu.Lock()
	if time.Now().Before(s.refuse) {
		s.mu.Unlock()
		return nil, errDismissed
	}
	s.last++
	st.m.node.Stream = s.last
	s.streams[s.last] = st
	s.mu.Unlock()
	select {
	case <-s.draining: // since we looked
		st.end(errDraining)
	default:
	}
	return st, nil
}

// peer is what is known of a node before it has said anything.
func (s *Server) peer(ctx context.Context, svc xds.Service) xds.Node {
	n := xds.Node{Service: svc, Identity: s.identity(ctx), Conn: connOf(ctx)}
	if p, ok := peer.FromContext(ctx); ok {
		n.Remote = p.Addr.String()
	}
	if kinds := metadata.ValueFromIncomingContext(ctx, xds.KindHeader); len(kinds) == 1 && kinds[0] == xds.KindRing {
		n.Kind = xds.KindRing
	}
	return n
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	delete(s.streams, st.m.node.Stream)
	s.mu.Unlock()
}

func (s *Server) all() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := slices.Sorted(maps.Keys(s.streams))
	all := make([]*stream, len(ids))
	for i, id := range ids {
		all[i] = s.streams[id]
	}
	return all
}
