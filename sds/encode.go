package sds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// certificateResource returns c as Envoy gets it, under the name that was asked for.
func certificateResource(name string, c keysource.Certificate) (*xds.Resource, error) {
	r, err := resource(name, xds.Mark(c.Version(), 0, true),
		&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
			TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(c.Chain), PrivateKey: inline(c.Key)},
		}})
	if err == nil {
		r.Until = c.NotAfter
	}
	return r, err
}

// certificateOf undoes certificateResource. ok is false if body was not made by it.
func certificateOf(body []byte) (p keysource.PEM, ok bool) {
	var s tlsv3.Secret
	if err := proto.Unmarshal(body, &s); err != nil {
		return p, false
	}
	c := s.GetTlsCertificate()
	return keysource.PEM{
		Chain: c.GetCertificateChain().GetInlineBytes(), Key: c.GetPrivateKey().GetInlineBytes(),
	}, c != nil
}

// ringResource returns r as the edge gets it: the first key encrypts, all decrypt. Envoy gets it
// under a version with a mark (see marked).
func ringResource(scope string, r keysource.Ring) (*xds.Resource, error) {
	keys := &tlsv3.TlsSessionTicketKeys{}
	for _, k := range r.Keys {
		keys.Keys = append(keys.Keys, inline(k[:]))
	}
	name := keysource.RingName(scope)
	return resource(name, r.Version(), &tlsv3.Secret{Name: name,
		Type: &tlsv3.Secret_SessionTicketKeys{SessionTicketKeys: keys}})
}

func resource(name, version string, secret *tlsv3.Secret) (*xds.Resource, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(secret)
	if err != nil {
		return nil, err
	}
	return &xds.Resource{Name: name, Version: version, Body: &anypb.Any{TypeUrl: TypeURL, Value: b}}, nil
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
