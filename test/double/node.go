package double

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// NodeConfig says what a [Node] is and where it connects.
type NodeConfig struct {
	Config
	ID, Cluster string
	XDS         string                           // XDS is the address of the control plane.
	Credentials credentials.TransportCredentials // Credentials are nil for plaintext.
	Version     *typev3.SemanticVersion          // Version is Envoy's; nil: 1.40.0.
	// RingHeaders are sent with a ring's stream, as by initial_metadata.
	RingHeaders metadata.MD
	// Pause comes before a stream is opened again; 0: up to 200 ms, as in the bootstrap.
	Pause time.Duration
}

// Node connects an [Envoy] to a control plane, as the bootstrap of lockstep does: a delta ADS
// stream for the certificates and a delta stream of the SDS service for each ring, over one
// connection. It is safe for concurrent use.
type Node struct {
	config NodeConfig

	mu     sync.Mutex // one start or stop at a time
	conn   *grpc.ClientConn
	end    context.CancelFunc // nil while the node is stopped
	ended  sync.WaitGroup
	state  sync.Mutex // guards envoy and counts
	envoy  *Envoy
	counts Counts
}

// Counts are what a node has got and said since it was made, over all its starts.
type Counts struct {
	Streams   int // Streams were opened.
	Responses int
	Bytes     int // Bytes is the size of the responses.
	NACKs     int
	Words     string // Words are those of the last NACK.
}

// NewNode returns a node that is stopped.
func NewNode(c NodeConfig) *Node {
	if c.Credentials == nil {
		c.Credentials = insecure.NewCredentials()
	}
	if c.Version == nil {
		c.Version = &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}
	}
	return &Node{config: c, envoy: New(c.Config)}
}

// Start starts a process that has nothing yet. It does not wait for the control plane.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.end != nil {
		return errors.New("double: the node has been started already")
	}
	const pause = 200 * time.Millisecond
	conn, err := grpc.NewClient("passthrough:///"+n.config.XDS,
		grpc.WithTransportCredentials(n.config.Credentials), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: pause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
			},
			MinConnectTimeout: 2 * time.Second,
		}))
	if err != nil {
		return fmt.Errorf("double: node %s: %w", n.config.ID, err)
	}
	n.state.Lock()
	n.envoy = New(n.config.Config)
	certificates, rings := n.envoy.Names(ADS), n.envoy.Names(SDS)
	n.state.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.conn, n.end = conn, cancel
	n.ended.Go(func() { n.keep(ctx, ADS, certificates, n.openADS) })
	for _, ring := range rings {
		n.ended.Go(func() { n.keep(ctx, SDS, []string{ring}, n.openSDS) })
	}
	return nil
}

// Stop ends the process as a kill does. What it served is still shown until the next start.
func (n *Node) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.end == nil {
		return nil
	}
	n.end()
	n.ended.Wait()
	n.end = nil
	return n.conn.Close()
}

// Restart stops the node and starts it again. It forgets all that it had.
func (n *Node) Restart() error {
	if err := n.Stop(); err != nil {
		return err
	}
	return n.Start()
}

// Open is [Envoy.Open].
func (n *Node) Open() bool {
	n.state.Lock()
	defer n.state.Unlock()
	return n.envoy.Open()
}

// Serves is [Envoy.Serves].
func (n *Node) Serves(i int) *Context {
	n.state.Lock()
	defer n.state.Unlock()
	return n.envoy.Serves(i)
}

// Counts returns what was counted until now.
func (n *Node) Counts() Counts {
	n.state.Lock()
	defer n.state.Unlock()
	return n.counts
}

// stream is what both services have.
type stream interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
	Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
}

func (n *Node) openADS(ctx context.Context) (stream, error) {
	return discoveryv3.NewAggregatedDiscoveryServiceClient(n.conn).DeltaAggregatedResources(ctx)
}

func (n *Node) openSDS(ctx context.Context) (stream, error) {
	if n.config.RingHeaders != nil {
		ctx = metadata.NewOutgoingContext(ctx, n.config.RingHeaders)
	}
	return secretv3.NewSecretDiscoveryServiceClient(n.conn).DeltaSecrets(ctx)
}

// keep holds a stream open until ctx ends.
func (n *Node) keep(ctx context.Context, on Stream, names []string, open func(context.Context) (stream, error)) {
	for ctx.Err() == nil {
		n.session(ctx, on, names, open)
		pause := n.config.Pause
		if pause == 0 {
			pause = rand.N(200 * time.Millisecond)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// session is one stream, from its first request to its end.
func (n *Node) session(ctx context.Context, on Stream, names []string, open func(context.Context) (stream, error)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := open(ctx)
	if err != nil {
		return
	}
	if s.Send(n.hello(on, names)) != nil {
		return
	}
	for {
		r, err := s.Recv()
		if err != nil {
			return
		}
		if s.Send(n.answer(on, r)) != nil {
			return
		}
	}
}

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// hello is the first request of a stream, the only one that says who the node is.
func (n *Node) hello(on Stream, names []string) *discoveryv3.DeltaDiscoveryRequest {
	n.state.Lock()
	defer n.state.Unlock()
	n.counts.Streams++
	return &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{
			Id: n.config.ID, Cluster: n.config.Cluster, UserAgentName: "envoy",
			UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
				UserAgentBuildVersion: &corev3.BuildVersion{Version: n.config.Version},
			},
		},
		TypeUrl: secretType, ResourceNamesSubscribe: names, InitialResourceVersions: n.envoy.Claims(on, names...),
	}
}

// answer takes a response and makes the ACK or NACK. The secrets are taken in any order, as in
// Envoy.
func (n *Node) answer(on Stream, r *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	resources := make([]Resource, len(r.GetResources()))
	for i, j := range rand.Perm(len(resources)) {
		x := r.GetResources()[j]
		resources[i] = Resource{Name: x.GetName(), Version: x.GetVersion(), Secret: x.GetResource().GetValue()}
	}
	n.state.Lock()
	defer n.state.Unlock()
	n.counts.Responses++
	n.counts.Bytes += proto.Size(r)
	a := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: r.GetNonce()}
	if words := n.envoy.Deliver(on, resources, r.GetRemovedResources()); words != "" {
		n.counts.NACKs++
		n.counts.Words = words
		a.ErrorDetail = &statuspb.Status{Code: int32(codes.Internal), Message: words}
	}
	return a
}
