package fleet

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Relay stands between an Envoy and its control plane, and passes xDS streams on byte for byte. A
// certificate whose organization is [Odd] is replaced on its way to Envoy by one that every Envoy
// refuses, under the same version and nonce. So the node behaves as one whose version refuses a
// certificate that the control plane takes for good. All methods are safe for concurrent use.
type Relay struct {
	Addr string // where Envoys reach it

	ca     *CA
	server *grpc.Server
	done   chan struct{}

	mu      sync.Mutex
	lenient bool
	spoiled map[string]bool // hosts of which every certificate is replaced
	to      *grpc.ClientConn
	old     []*grpc.ClientConn
	ends    map[int]context.CancelFunc // of the streams that are open
	next    int
	bad     map[string]Pair // by the leaf that is replaced: the same bytes always become the same
	count   RelayCount
}

// RelayCount is what a relay has seen.
type RelayCount struct {
	Streams   int // that were opened
	Rings     int // of those, with the header that says that the stream is a ring's
	Responses int // passed on to Envoys
	Replaced  int // certificates
	Refused   int // requests that refuse a response
}

// Odd is the organization of certificates that a relay replaces; see [Leaf].Organization.
const Odd = "an Envoy behind a relay refuses it"

// kindHeader is the header that bootstraps put on a ring's stream.
const kindHeader = "x-lockstep-kind"

// NewRelay starts one in front of a control plane without TLS. What takes the place of a
// certificate is issued by ca. The caller closes it.
func NewRelay(to string, ca *CA) (*Relay, error) {
	addr, err := Addr()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("fleet: relay: %w", err)
	}
	r := &Relay{
		Addr: addr, ca: ca, done: make(chan struct{}), ends: map[int]context.CancelFunc{},
		bad: map[string]Pair{}, spoiled: map[string]bool{},
	}
	if err := r.Forward(to); err != nil {
		l.Close()
		return nil, err
	}
	r.server = grpc.NewServer(
		grpc.ForceServerCodec(asIs{}), grpc.UnknownServiceHandler(r.stream),
		// as lockstepd
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	go func() {
		defer close(r.done)
		r.server.Serve(l) // until Close
	}()
	return r, nil
}

// Close ends all streams.
func (r *Relay) Close() {
	r.server.Stop()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range append(r.old, r.to) {
		c.Close()
	}
}

// Forward sends the streams that come from now on to another control plane. Those that are open
// stay.
func (r *Relay) Forward(to string) error {
	conn, err := grpc.NewClient("passthrough:///"+to, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(asIs{}), grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond},
		}))
	if err != nil {
		return fmt.Errorf("fleet: relay: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to != nil {
		r.old = append(r.old, r.to)
	}
	r.to = conn
	return nil
}

// Cut ends the streams that are open.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, end := range r.ends {
		end()
	}
}

// Spare says whether certificates are passed on as they are, whatever their organization.
func (r *Relay) Spare(all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lenient = all
}

// Spoil has every certificate of a host replaced, whatever its organization: no remedy helps. With
// false that ends.
func (r *Relay) Spoil(host string, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spoiled[host] = all
}

// Count returns what the relay has seen so far.
func (r *Relay) Count() RelayCount {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// asIs is a codec of gRPC whose messages are *[]byte.
type asIs struct{}

func (asIs) Name() string { return "proto" }

func (asIs) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (asIs) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = slices.Clone(b)
	return nil
}

// stream passes one stream on, whatever its method.
func (r *Relay) stream(_ any, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down)
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	headers, _ := metadata.FromIncomingContext(ctx)
	conn, leave := r.enter(cancel, len(headers.Get(kindHeader)) > 0)
	defer leave()
	up, err := conn.NewStream(metadata.NewOutgoingContext(ctx, passed(headers)),
		&grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	delta := strings.Contains(method, "Delta")
	go func() {
		for {
			var b []byte
			if err := down.RecvMsg(&b); err != nil {
				if errors.Is(err, io.EOF) {
					up.CloseSend()
				}
				return // down's context ends with its handler
			}
			r.requested(b, delta)
			if up.SendMsg(&b) != nil {
				return // RecvMsg says why
			}
		}
	}()
	for {
		var b []byte
		err := up.RecvMsg(&b)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return status.Error(codes.Unavailable, "the relay was told to end this stream")
		case err != nil:
			return err
		}
		if b, err = r.respond(b, delta); err != nil {
			return err
		}
		if err := down.SendMsg(&b); err != nil {
			return err
		}
	}
}

// enter notes that a stream is open, until leave is called, and returns where it goes.
func (r *Relay) enter(end context.CancelFunc, ring bool) (to *grpc.ClientConn, leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.Streams++
	if ring {
		r.count.Rings++
	}
	n := r.next
	r.next++
	r.ends[n] = end
	return r.to, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ends, n)
	}
}

// passed are the headers that a caller set, without those of the transport.
func passed(in metadata.MD) metadata.MD {
	out := metadata.MD{}
	for k, v := range in {
		if !strings.HasPrefix(k, ":") && !strings.HasPrefix(k, "grpc-") &&
			k != "content-type" && k != "user-agent" && k != "te" {
			out[k] = v
		}
	}
	return out
}

func (r *Relay) requested(b []byte, delta bool) {
	var req interface {
		proto.Message
		GetErrorDetail() *statuspb.Status
	} = &discoveryv3.DiscoveryRequest{}
	if delta {
		req = &discoveryv3.DeltaDiscoveryRequest{}
	}
	if proto.Unmarshal(b, req) == nil && req.GetErrorDetail() != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.count.Refused++
	}
}

// respond returns a response as Envoy is to see it.
func (r *Relay) respond(b []byte, delta bool) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.Responses++
	if r.lenient || !bytes.Contains(b, []byte("-----BEGIN CERTIFICATE")) {
		return b, nil
	}
	var resp proto.Message
	var bodies []*anypb.Any
	if delta {
		d := &discoveryv3.DeltaDiscoveryResponse{}
		if err := proto.Unmarshal(b, d); err != nil {
			return nil, fmt.Errorf("fleet: relay: %w", err)
		}
		for _, res := range d.GetResources() {
			bodies = append(bodies, res.GetResource())
		}
		resp = d
	} else {
		s := &discoveryv3.DiscoveryResponse{}
		if err := proto.Unmarshal(b, s); err != nil {
			return nil, fmt.Errorf("fleet: relay: %w", err)
		}
		bodies, resp = s.GetResources(), s
	}
	changed := false
	for _, body := range bodies {
		did, err := r.replace(body)
		if err != nil {
			return nil, fmt.Errorf("fleet: relay: %w", err)
		}
		changed = changed || did
	}
	if !changed {
		return b, nil
	}
	return proto.Marshal(resp)
}

// replace changes a secret in its place if its leaf is an odd one. What stands before the first
// block of the chain stays: by it, encodings of one certificate differ. The caller holds mu.
func (r *Relay) replace(body *anypb.Any) (changed bool, err error) {
	var s tlsv3.Secret
	if body.UnmarshalTo(&s) != nil || s.GetTlsCertificate() == nil {
		return false, nil // not a certificate
	}
	chain := s.GetTlsCertificate().GetCertificateChain().GetInlineBytes()
	block, _ := pem.Decode(chain)
	if block == nil {
		return false, nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false, err
	}
	if !slices.Contains(leaf.Subject.Organization, Odd) &&
		!slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return r.spoiled[n] }) {
		return false, nil
	}
	bad, ok := r.bad[string(leaf.Raw)]
	if !ok {
		// BoringSSL refuses an EC key that may not sign (ssl_cert_check_key_usage).
		if bad, err = r.ca.Issue(Leaf{Names: leaf.DNSNames, Usage: x509.KeyUsageKeyAgreement}); err != nil {
			return false, err
		}
		r.bad[string(leaf.Raw)] = bad
	}
	before := chain[:bytes.Index(chain, []byte("-----BEGIN"))]
	s.GetTlsCertificate().CertificateChain = inlineBytes(slices.Concat(before, bad.Chain))
	s.GetTlsCertificate().PrivateKey = inlineBytes(bad.Key)
	body.Value, err = proto.MarshalOptions{Deterministic: true}.Marshal(&s)
	r.count.Replaced++
	return true, err
}

func inlineBytes(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
