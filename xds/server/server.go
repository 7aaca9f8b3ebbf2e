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
	// Observe is called with each event, synchronously and in order, while the stream stands
	// still. It must not block, and must not ask the server about the stream. It is called for
	// many streams at once.
	Observe func(xds.Event)
	// Identity returns the identity of a stream's peer, as the transport proved it. If Identity is
	// nil, nobody has an identity.
	Identity func(context.Context) string
	// Validity returns when the certificate is valid that proved it. If Validity is nil, that is
	// not known.
	Validity func(context.Context) (from, until time.Time)
	// Remote returns the address of a stream's peer where that says more than its connection, and
	// else an empty string. Remote may be nil.
	Remote func(context.Context) string
	// Admit returns why a node may not connect, or nil if it may. It is asked once the node has
	// said its id, before anything else is done for it, and again by [Server.AdmitAnew]. It must
	// not block. If Admit is nil, every node may.
	Admit func(xds.Node) error
	// OnDemand is a type of Types whose names nodes ask for on the aggregated service as clients
	// come. They have no other bound, so each resource carries a TTL ([xds.Resource.TTL]). If a
	// node holds more than Hold of them (default 20 000), those that were sent first are removed,
	// at most 50 a second. It unsubscribes from those, and asks again when a client does. A name
	// from which it does not unsubscribe is sent again, and stays. If OnDemand is empty, there is
	// no such type.
	//
	// HoldGroup (default 1000) is how many names of a group ([xds.Resource.Group]) a node may
	// hold. Beyond that its oldest are evicted, at most 50 a second, and as many new ones are let
	// in. Names that were evicted in the last minutes and are asked for again are let in, too.
	// They are so up to twice HoldGroup. The others are called absent.
	OnDemand  string
	Hold      int
	HoldGroup int
	// Log gets what an operator should look into. If it is nil, nothing is logged.
	Log *slog.Logger
}

// Server serves xDS streams. Its methods are safe for concurrent use.
type Server struct {
	env      *environment
	identity func(context.Context) string
	validity func(context.Context) (from, until time.Time)
	remote   func(context.Context) string

	pushers pushers

	drained  sync.Once
	draining chan struct{} // closed by Drain

	mu      sync.Mutex
	refuse  time.Time // new streams are refused until then
	last    uint64    // number of the newest stream
	streams map[uint64]*stream
}

// New returns a server. It starts nothing.
func New(c Config) *Server {
	if c.Observe == nil {
		c.Observe = func(xds.Event) {}
	}
	if c.Identity == nil {
		c.Identity = func(context.Context) string { return "" }
	}
	if c.Validity == nil {
		c.Validity = func(context.Context) (from, until time.Time) { return from, until }
	}
	if c.Remote == nil {
		c.Remote = func(context.Context) string { return "" }
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
		env: &environment{types: maps.Clone(c.Types), observe: c.Observe, admit: c.Admit, log: c.Log, limits: bounds,
			onDemand: c.OnDemand},
		identity: c.Identity, validity: c.Validity, remote: c.Remote,
		draining: make(chan struct{}),
		streams:  make(map[uint64]*stream),
		pushers:  pushers{limit: runtime.GOMAXPROCS(0)},
	}
}

// SetHold replaces [Config].Hold and HoldGroup, for the streams that are open too. What a node
// holds beyond a lower bound is removed at the usual pace.
func (s *Server) SetHold(hold, group int) {
	s.env.hold.Store(int64(hold))
	s.env.group.Store(int64(group))
	for _, st := range s.all() {
		_ = st.do(func(time.Time) ([]*response, error) { // an error has ended the stream already
			st.m.regroup()
			return nil, nil
		})
	}
}

// Delta serves an incremental stream until it ends. defaultType is the one type of the service, or
// empty on ADS. The error is a gRPC status.
func (s *Server) Delta(gs grpc.ServerStream, svc xds.Service, defaultType string) error {
	st, err := s.open(gs, svc, defaultType)
	if err != nil {
		return err
	}
	return serve[discoveryv3.DeltaDiscoveryRequest](st, st.m.delta)
}

// SotW serves a state-of-the-world stream, as Delta serves an incremental one.
func (s *Server) SotW(gs grpc.ServerStream, svc xds.Service, defaultType string) error {
	st, err := s.open(gs, svc, defaultType)
	if err != nil {
		return err
	}
	st.m.sotw = true
	return serve[discoveryv3.DiscoveryRequest](st, st.m.stateOfTheWorld)
}

// Drain ends all streams at once, and refuses new ones with UNAVAILABLE, so that nodes go to
// another replica. The node sees CANCELLED: gRPC writes that itself when a handler's RecvMsg is
// interrupted. A node whose last request is still being handled sees UNAVAILABLE. The reason is in
// the Closed event.
func (s *Server) Drain() {
	s.drained.Do(func() { close(s.draining) })
	for _, st := range s.all() {
		st.end(errDraining)
	}
}

var errDraining = status.Error(codes.Unavailable, "the server is going down: connect to another one")

// Dismiss ends all streams, and refuses new ones with UNAVAILABLE for d, so that nodes go to
// another replica if they can. It returns how many streams it ended.
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

// AdmitAnew asks [Config].Admit again about each node that is connected, and ends the streams of
// those that may not be.
func (s *Server) AdmitAnew() {
	for _, st := range s.all() {
		st.mu.Lock()
		if st.m.node.ID != "" && !st.ended && st.err == nil {
			if err := s.env.mayConnect(st.m.node); err != nil {
				st.fail(err)
			}
		}
		st.mu.Unlock()
	}
}

// open makes the stream of gs, and registers it.
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
	st := &stream{s: s, gs: gs, since: time.Now(), abort: abort,
		m: &machine{env: s.env, only: only, node: s.peer(ctx, svc)}}
	st.m.mailbox = xds.NewWakingMailbox(func() { s.pushers.add(st) })
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
	case <-s.draining: // Drain was called since the check above
		st.end(errDraining)
	default:
	}
	return st, nil
}

// peer returns what is known of a node before its first request.
func (s *Server) peer(ctx context.Context, svc xds.Service) xds.Node {
	n := xds.Node{Service: svc, Identity: s.identity(ctx), Conn: connOf(ctx)}
	n.ValidFrom, n.ValidUntil = s.validity(ctx)
	if p, ok := peer.FromContext(ctx); ok {
		n.Remote = p.Addr.String()
	}
	if at := s.remote(ctx); at != "" {
		n.Remote = at
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

// all returns the open streams, in the order in which they came.
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
