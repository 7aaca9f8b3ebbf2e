package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// subscription is one stream as an Envoy opens it for one secret of its own configuration (not
// ADS): state of the world, a stream for each name.
type subscription struct {
	s       *stage
	node    *corev3.Node
	name    string
	once    bool // the node is in the first request alone
	stream  secretv3.SecretDiscoveryService_StreamSecretsClient
	answers chan *discoveryv3.DiscoveryResponse // closed when the stream has ended
}

// subscribe sends the first request: a node, one name, no version.
func (s *stage) subscribe(
	ctx context.Context, conn *grpc.ClientConn, node *corev3.Node, name string, once bool,
) *subscription {
	s.t.Helper()
	stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(ctx)
	s.ok(err)
	sub := &subscription{s, node, name, once, stream, make(chan *discoveryv3.DiscoveryResponse, 16)}
	s.ok(stream.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: secretType, ResourceNames: []string{name}}))
	go func() {
		defer close(sub.answers)
		for {
			resp, err := stream.Recv()
			if err != nil {
				return
			}
			sub.answers <- resp
		}
	}()
	return sub
}

// next is the next secret, which it acknowledges as Envoy does.
func (sub *subscription) next() *tlsv3.Secret {
	sub.s.t.Helper()
	var resp *discoveryv3.DiscoveryResponse
	select {
	case resp = <-sub.answers:
	case <-sub.s.ctx.Done():
	}
	if resp == nil {
		sub.s.t.Fatalf("%s, %s: no answer, or the stream has ended", sub.node.Id, sub.name)
	}
	secret := new(tlsv3.Secret)
	if len(resp.Resources) != 1 || resp.TypeUrl != secretType {
		sub.s.t.Fatalf("%s, %s: %d resources of type %s", sub.node.Id, sub.name, len(resp.Resources), resp.TypeUrl)
	}
	sub.s.ok(proto.Unmarshal(resp.Resources[0].Value, secret))
	if secret.Name != sub.name { // Envoy takes none of another name
		sub.s.t.Fatalf("%s asked for %s and got %s", sub.node.Id, sub.name, secret.Name)
	}
	ack := &discoveryv3.DiscoveryRequest{
		VersionInfo: resp.VersionInfo, ResponseNonce: resp.Nonce,
		TypeUrl: secretType, ResourceNames: []string{sub.name},
	}
	if !sub.once {
		ack.Node = sub.node
	}
	sub.s.ok(sub.stream.Send(ack))
	return secret
}

// certificate takes answers until that one comes: two renewals in a row may be two answers or one.
func (sub *subscription) certificate(want fleet.Pair) {
	sub.s.t.Helper()
	for !bytes.Equal(sub.next().GetTlsCertificate().GetCertificateChain().GetInlineBytes(), want.Chain) {
	}
}

// TestSubscriptionsThatOthersMake replays, request by request, what the Envoys of other control
// planes send (testdata/external says where that was read), on a unix socket, where the policy
// knows them by their user.
func TestSubscriptionsThatOthersMake(t *testing.T) {
	s := newStage(t, setup{hosts: 1, later: true})
	dir, err := os.MkdirTemp("", "sds") // a socket's path may have 107 bytes
	s.ok(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.policy(fmt.Sprintf("- {identity: \"unix:uid=%d\", scopes: [default], names: [\"*.example\"]}\n", os.Getuid()))
	s.plane.XDS = "unix:" + dir + "/x"
	s.plane.Args = append(s.plane.Args, "--policy", s.path("policy.yaml"))
	s.start()
	const host, later = "host-1.example", "later.example"
	first := s.renew(host)

	var certs, laters, rings []*subscription
	for _, g := range []struct {
		id     string
		prefix string
		once   bool
	}{
		{"envoy-default-shop-3b2d8c1f-6c9d7b5f4-x2x4q", "", false},
		{"router~10.1.2.3~ingressgateway-6c9d7b5f4-x2x4q.istio-ingress~istio-ingress.svc.cluster.local",
			"sds://", true},
		{"shop-gateway-1", "", false},
	} {
		conn, err := grpc.NewClient(s.plane.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
		s.ok(err)
		t.Cleanup(func() { conn.Close() })
		ctx, cancel := context.WithCancel(s.ctx)
		t.Cleanup(cancel)
		node := &corev3.Node{Id: g.id, Cluster: "gateway", UserAgentName: "envoy"}
		laters = append(laters, s.subscribe(ctx, conn, node, g.prefix+later, g.once))
		certs = append(certs, s.subscribe(ctx, conn, node, g.prefix+host, g.once))
		rings = append(rings, s.subscribe(ctx, conn, node, "tickets/default", g.once))
	}
	for _, sub := range certs {
		sub.certificate(first)
	}
	for _, sub := range rings {
		// in two encodings, since it is not known what the node was sent before: the first repeats
		// the key
		for _, want := range []int{3, 1} {
			if n := len(sub.next().GetSessionTicketKeys().GetKeys()); n != want {
				t.Errorf("%s got a ring of %d keys, want %d", sub.node.Id, n, want)
			}
		}
	}
	s.awaitPhase("steady", 3)
	renewed := s.renew(host)
	for _, sub := range certs {
		sub.certificate(renewed)
	}
	s.mustRun("rotate")
	before := map[*subscription][]byte{}
	for _, sub := range rings { // a new key, behind the old one
		keys := sub.next().GetSessionTicketKeys().GetKeys()
		if len(keys) != 2 {
			t.Fatalf("%s got a ring of %d keys", sub.node.Id, len(keys))
		}
		before[sub] = keys[1].GetInlineBytes()
	}
	for _, sub := range rings { // all have it: it encrypts
		if keys := sub.next().GetSessionTicketKeys().GetKeys(); len(keys) != 2 ||
			!bytes.Equal(keys[0].GetInlineBytes(), before[sub]) {
			t.Errorf("%s got a ring of %d keys whose first is not the new one", sub.node.Id, len(keys))
		}
	}
	for _, sub := range laters {
		select {
		case resp, open := <-sub.answers:
			t.Errorf("%s, %s: %v (open: %v), want silence: state of the world cannot say that there is none",
				sub.node.Id, sub.name, resp, open)
		default:
		}
	}
	there := s.renew(later)
	for _, sub := range laters {
		sub.certificate(there)
	}

	var e struct {
		Nodes []struct{ Node, Identity, Name, State string }
	}
	s.eventually(func() error {
		if err := s.show(&e, "explain", host); err != nil {
			return err
		}
		var as []string
		for _, n := range e.Nodes {
			if n.State != "accepted" || n.Identity != fmt.Sprintf("unix:uid=%d", os.Getuid()) {
				return fmt.Errorf("%+v", n)
			}
			as = append(as, n.Name)
		}
		slices.Sort(as)
		if got := strings.Join(as, " "); got != host+" "+host+" sds://"+host {
			return errors.New("held as " + got)
		}
		return nil
	})
}
