package sds

import (
	"fmt"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/xds"
)

// Varies implements [xds.Varying]. Every node except the edge keeps what it refuses, as Envoy
// does.
func (t *Table) Varies(node xds.Node) bool { return node.Agent != xds.EdgeAgent }

// Variant implements [xds.Varying]. In a ring the first key is repeated at the end, n times. The
// first match wins, so the keys mean the same. In a chain a line of text stands before the first
// block, which PEM parsers skip.
func (t *Table) Variant(r *xds.Resource, n int, counts bool) *xds.Resource {
	content, _ := xds.Content(r.Version)
	v := &xds.Resource{Name: r.Name, Version: xds.Mark(content, n, counts), Group: r.Group, Until: r.Until,
		StandIn: r.StandIn}
	var s tlsv3.Secret
	if err := r.Body.UnmarshalTo(&s); err != nil {
		// The error is left out, since it may quote the secret.
		panic(fmt.Sprintf("sds: a resource that was made here cannot be read: %q", r.Name))
	}
	switch {
	case s.GetSessionTicketKeys() != nil:
		keys := s.GetSessionTicketKeys()
		for range n {
			keys.Keys = append(keys.Keys, keys.Keys[0])
		}
	case s.GetTlsCertificate() != nil:
		c := s.GetTlsCertificate()
		chain := fmt.Appendf(nil, "encoding %d\n", n)
		c.CertificateChain = inline(append(chain, c.GetCertificateChain().GetInlineBytes()...))
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&s)
	if err != nil {
		panic(fmt.Sprintf("sds: %q cannot be encoded again", r.Name))
	}
	v.Body = &anypb.Any{TypeUrl: TypeURL, Value: b}
	return v
}

// marked returns r under a version with the mark of the plain encoding. Both share the bytes.
func marked(r *xds.Resource) *xds.Resource {
	return &xds.Resource{Name: r.Name, Version: xds.Mark(r.Version, 0, true), Body: r.Body}
}

var _ xds.Varying = (*Table)(nil)
