package e2e

import (
	"context"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// scripted is a node that subscribes to a scope's ring as Envoy does and answers as it is told. It
// reconnects when its stream breaks. One goroutine reads; mu guards the rest.
type scripted struct {
	id, name string
	kind     string // the value of the header that says what its stream asks for; "": it has none
	conn     *grpc.ClientConn
	end      context.CancelFunc
	ended    chan struct{}

	mu      sync.Mutex
	play    script
	stream  secretv3.SecretDiscoveryService_DeltaSecretsClient // nil: not connected
	cut     context.CancelFunc
	held    ring
	waiting []delivery // withheld
	removed int        // times that it was told that there is no such secret
	sent    []string   // contents, in their order
}

type delivery struct {
	nonce string
	ring  ring
}

// scripted starts a node for the scope default.
func (s *stage) scripted(id string, play script) *scripted {
	s.t.Helper()
	return s.scriptedAs("", id, keysource.RingName("default"), play)
}

// scriptedFor starts a node that subscribes to another secret. Of a certificate it knows the
// version alone.
func (s *stage) scriptedFor(id, name string, play script) *scripted {
	s.t.Helper()
	return s.scriptedAs("", id, name, play)
}

// scriptedOf starts one whose stream says what it asks for.
func (s *stage) scriptedOf(kind, id string, play script) *scripted {
	s.t.Helper()
	return s.scriptedAs(kind, id, keysource.RingName("default"), play)
}

func (s *stage) scriptedAs(kind, id, name string, play script) *scripted {
	s.t.Helper()
	creds := insecure.NewCredentials()
	if s.plane.TLS != nil {
		creds = credentials.NewTLS(s.plane.TLS)
	}
	conn, err := grpc.NewClient(s.plane.XDS, grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond},
		}))
	s.ok(err)
	ctx, cancel := context.WithCancel(s.ctx)
	n := &scripted{id: id, name: name, kind: kind, conn: conn, end: cancel, ended: make(chan struct{}), play: play}
	go n.run(ctx)
	s.t.Cleanup(n.stop)
	return n
}

// stop closes the connection for good.
func (n *scripted) stop() {
	n.end()
	<-n.ended
	n.conn.Close()
}

// follow changes the script and answers what waits by it.
func (n *scripted) follow(play script) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.play = play
	waiting := n.waiting
	n.waiting = nil
	for _, d := range waiting {
		n.answer(d)
	}
}

// move ends the stream: the node comes back on another one.
func (n *scripted) move() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut()
}

// toldOfNone is how often the node was told that there is no such secret.
func (n *scripted) toldOfNone() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.removed
}

// wasSent reports whether the node was sent that content.
func (n *scripted) wasSent(content string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.sent, content)
}

func (n *scripted) run(ctx context.Context) {
	defer close(n.ended)
	for ctx.Err() == nil {
		n.session(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *scripted) session(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if n.kind != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-lockstep-kind", n.kind)
	}
	stream, err := secretv3.NewSecretDiscoveryServiceClient(n.conn).DeltaSecrets(ctx, grpc.WaitForReady(true))
	if err != nil {
		return
	}
	n.open(stream, cancel)
	for {
		resp, err := stream.Recv()
		if err != nil {
			n.mu.Lock()
			n.stream, n.waiting = nil, nil // a nonce belongs to its stream
			n.mu.Unlock()
			return
		}
		n.take(resp)
	}
}

func (n *scripted) open(stream secretv3.SecretDiscoveryService_DeltaSecretsClient, cut context.CancelFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stream, n.cut = stream, cut
	first := &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: n.id, UserAgentName: "scripted"}, TypeUrl: secretType,
		ResourceNamesSubscribe: []string{n.name},
	}
	if n.held.version != "" {
		first.InitialResourceVersions = map[string]string{n.name: n.held.version}
	}
	_ = stream.Send(first) // a broken stream shows at Recv
}

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

func (n *scripted) take(resp *discoveryv3.DeltaDiscoveryResponse) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removed += len(resp.GetRemovedResources())
	if len(resp.GetResources()) == 0 {
		n.say(resp.GetNonce(), "")
		return
	}
	for _, r := range resp.GetResources() {
		secret := &tlsv3.Secret{}
		if err := r.GetResource().UnmarshalTo(secret); err != nil {
			n.say(resp.GetNonce(), err.Error())
			return
		}
		d := delivery{resp.GetNonce(), ring{version: r.GetVersion()}}
		content, _ := xds.Content(r.GetVersion())
		n.sent = append(n.sent, content)
		for _, k := range secret.GetSessionTicketKeys().GetKeys() {
			d.ring.keys = append(d.ring.keys, keysource.TicketKey(k.GetInlineBytes()).ID())
		}
		n.answer(d)
	}
}

// answer needs mu.
func (n *scripted) answer(d delivery) {
	a := n.play(n.held, d.ring)
	if a.withhold {
		n.waiting = append(n.waiting, d)
		return
	}
	if a.words == "" {
		n.held = d.ring
	}
	n.say(d.nonce, a.words)
}

// say needs mu.
func (n *scripted) say(nonce, words string) {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: nonce}
	if words != "" {
		req.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: words}
	}
	if n.stream != nil {
		_ = n.stream.Send(req)
	}
}
