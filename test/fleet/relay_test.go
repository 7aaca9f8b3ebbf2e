package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// said is what the control plane behind a relay got.
type said struct {
	kind []string
	req  []byte
}

// behind starts a control plane that shows each request, and answers it with what respond returns.
func behind(t *testing.T, respond func() []byte) (addr string, got chan said) {
	t.Helper()
	addr, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	got = make(chan said, 8)
	s := grpc.NewServer(grpc.ForceServerCodec(asIs{}),
		grpc.UnknownServiceHandler(func(_ any, st grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(st.Context())
			for {
				var b []byte
				if err := st.RecvMsg(&b); err != nil {
					return nil
				}
				got <- said{md.Get(kindHeader), b}
				answer := respond()
				if err := st.SendMsg(&answer); err != nil {
					return err
				}
			}
		}))
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return addr, got
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestARelayChangesOddCertificatesAndNothingElse: on all four kinds of stream.
func TestARelayChangesOddCertificatesAndNothingElse(t *testing.T) {
	ca, err := NewCA("Relay Test CA")
	if err != nil {
		t.Fatal(err)
	}
	secretOf := func(before string, l Leaf) *anypb.Any {
		p, err := ca.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return &anypb.Any{TypeUrl: secretType, Value: marshal(t, &tlsv3.Secret{Name: "shop.example",
			Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
				CertificateChain: inlineBytes(append([]byte(before), p.Chain...)), PrivateKey: inlineBytes(p.Key),
			}}})}
	}
	good, odd := secretOf("", Leaf{Names: []string{"shop.example"}}),
		secretOf("", Leaf{Names: []string{"shop.example"}, Organization: Odd})
	varied := proto.Clone(odd).(*anypb.Any)
	var s tlsv3.Secret
	if err := varied.UnmarshalTo(&s); err != nil {
		t.Fatal(err)
	}
	s.GetTlsCertificate().CertificateChain = inlineBytes(append([]byte("encoding 1\n"),
		s.GetTlsCertificate().GetCertificateChain().GetInlineBytes()...))
	varied.Value = marshal(t, &s)

	for _, method := range []string{
		"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
		"/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
		"/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
		"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
	} {
		delta := bytes.Contains([]byte(method), []byte("Delta"))
		response := func(body *anypb.Any) []byte {
			if delta {
				return marshal(t, &discoveryv3.DeltaDiscoveryResponse{
					Nonce: "n", TypeUrl: secretType,
					Resources: []*discoveryv3.Resource{{Name: "shop.example", Version: "v", Resource: body}},
				})
			}
			return marshal(t, &discoveryv3.DiscoveryResponse{
				Nonce: "n", VersionInfo: "v", TypeUrl: secretType, Resources: []*anypb.Any{body},
			})
		}
		read := func(b []byte) (version string, c *tlsv3.TlsCertificate) {
			var body *anypb.Any
			if delta {
				var r discoveryv3.DeltaDiscoveryResponse
				if err := proto.Unmarshal(b, &r); err != nil || r.GetNonce() != "n" {
					t.Fatalf("%v, nonce %q", err, r.GetNonce())
				}
				version, body = r.GetResources()[0].GetVersion(), r.GetResources()[0].GetResource()
			} else {
				var r discoveryv3.DiscoveryResponse
				if err := proto.Unmarshal(b, &r); err != nil || r.GetNonce() != "n" {
					t.Fatalf("%v, nonce %q", err, r.GetNonce())
				}
				version, body = r.GetVersionInfo(), r.GetResources()[0]
			}
			var s tlsv3.Secret
			if err := body.UnmarshalTo(&s); err != nil {
				t.Fatal(err)
			}
			return version, s.GetTlsCertificate()
		}
		answers := make(chan []byte, 1)
		addr, got := behind(t, func() []byte { return <-answers })
		r, err := NewRelay(addr, ca)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient("passthrough:///"+r.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(asIs{})))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), kindHeader, "ring"),
			10*time.Second)
		st, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(req, answer []byte) (b []byte) {
			answers <- answer
			if err := st.SendMsg(&req); err != nil {
				t.Fatal(err)
			}
			if g := <-got; len(g.kind) != 1 || g.kind[0] != "ring" || !bytes.Equal(g.req, req) {
				t.Errorf("%s: %q arrived, with the header %v", method, g.req, g.kind)
			}
			if err := st.RecvMsg(&b); err != nil {
				t.Fatal(err)
			}
			return b
		}
		if want := response(good); !bytes.Equal(ask([]byte("no protobuf \xff"), want), want) {
			t.Errorf("%s: a good certificate was changed", method)
		}
		if want := []byte("no protobuf \xff"); !bytes.Equal(ask(nil, want), want) {
			t.Errorf("%s: what is no certificate was changed", method)
		}
		first, again, other := ask(nil, response(odd)), ask(nil, response(odd)), ask(nil, response(varied))
		if !bytes.Equal(first, again) || bytes.Equal(first, other) {
			t.Errorf("%s: the same bytes became others, or others the same", method)
		}
		version, c := read(other)
		if version != "v" || !bytes.HasPrefix(c.GetCertificateChain().GetInlineBytes(),
			[]byte("encoding 1\n-----BEGIN")) {
			t.Errorf("%s: version %q, the chain begins %.30q",
				method, version, c.GetCertificateChain().GetInlineBytes())
		}
		if _, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(),
			c.GetPrivateKey().GetInlineBytes()); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		r.Spare(true)
		if want := response(odd); !bytes.Equal(ask(nil, want), want) {
			t.Errorf("%s: a certificate was changed that was to be spared", method)
		}
		nack := marshal(t, &discoveryv3.DiscoveryRequest{ErrorDetail: &statuspb.Status{Message: "no"}})
		if delta {
			nack = marshal(t, &discoveryv3.DeltaDiscoveryRequest{ErrorDetail: &statuspb.Status{Message: "no"}})
		}
		ask(nack, response(good))
		if n := r.Count(); n != (RelayCount{Streams: 1, Rings: 1, Responses: 7, Replaced: 3, Refused: 1}) {
			t.Errorf("%s: %+v", method, n)
		}
		r.Cut()
		var b []byte
		if err := st.RecvMsg(&b); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: a stream that was cut ended with %v", method, err)
		}
		second, got2 := behind(t, func() []byte { return []byte("second") })
		if err := r.Forward(second); err != nil {
			t.Fatal(err)
		}
		if st, err = conn.NewStream(ctx,
			&grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method); err != nil {
			t.Fatal(err)
		}
		req := []byte{}
		if err := st.SendMsg(&req); err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(&b); err != nil || string(b) != "second" || len(got2) != 1 {
			t.Errorf("%s: after the move: %q, %v", method, b, err)
		}
		cancel()
		conn.Close()
		r.Close()
	}
}

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
