package lds

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	sniv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

var (
	// connectTimeout ends handshakes that would hang on a certificate that does not come.
	connectTimeout = durationpb.New(10 * time.Second)
	// certificateWithin is how long a new chain waits for its certificate. A certificate that
	// cannot be loaded must not hold up the listener, and with it all other hosts. It is part of
	// certificates.
	certificateWithin = durationpb.New(10 * time.Second)
	// certificates is the config source of the chains' certificates. Envoy keeps one watch for a
	// name and these bytes. If they differ, a second watch on ADS gets nothing until the
	// certificate is sent again. So they should not change, not even from one version of lockstepd
	// to the next. [Table.Brings] has sent again what a new chain names and the node already had.
	//
	// Source: https://github.com/envoyproxy/envoy/issues/47309
	certificates = &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3, InitialFetchTimeout: certificateWithin,
	}
	// ringWithin means that a ring is waited for without end, since without one every host would
	// reset.
	ringWithin = durationpb.New(0)
)

const (
	onDemandName = "on-demand"
	// noSNI is the certificate that a client without SNI gets.
	noSNI = "no-sni.invalid"

	fieldFilterChains = 3 // field number of Listener
)

// eager returns the encoded field filter_chains of a host's own chain. With both it names the
// host's second certificate, too, and Envoy serves the one that the client can use.
func (t *Template) eager(host keysource.Name, both bool) ([]byte, error) {
	return t.encode(func(c *listenerv3.FilterChain, d *tlsv3.DownstreamTlsContext) error {
		c.Name = string(host)
		c.FilterChainMatch = matchOf(host, t.clients.Mark(string(host)))
		d.SessionTimeout = durationpb.New(t.opt.TicketLifetime)
		d.CommonTlsContext.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{{Name: keysource.ChainName(host),
			SdsConfig: certificates}}
		if both {
			c := d.CommonTlsContext
			c.TlsCertificateSdsSecretConfigs = append(c.TlsCertificateSdsSecretConfigs,
				&tlsv3.SdsSecretConfig{Name: keysource.ChainName(host.Second()), SdsConfig: certificates})
		}
		d.SessionTicketKeysType = &tlsv3.DownstreamTlsContext_SessionTicketKeysSdsSecretConfig{
			SessionTicketKeysSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: keysource.RingName(t.opt.Scope),
				SdsConfig: overSDS()},
		}
		return nil
	})
}

// matchOf returns what the chain of a host matches by itself. The matcher decides in its place, but
// Envoy binds tickets to the server names that stand there. An address has none, in bootstraps too.
// The mark is one that binds tickets to all CAs of clients. It may be empty.
func matchOf(host keysource.Name, mark string) *listenerv3.FilterChainMatch {
	m := &listenerv3.FilterChainMatch{}
	if a, ok := host.Address(); ok {
		m.PrefixRanges = []*corev3.CidrRange{{AddressPrefix: a.String(),
			PrefixLen: wrapperspb.UInt32(uint32(a.BitLen()))}}
	} else {
		m.ServerNames = []string{string(host)}
	}
	if mark != "" {
		m.ServerNames = append(m.ServerNames, mark)
	}
	return m
}

// onDemandChain fills the chain of every other name. Its certificate is asked for by the SNI of
// the first handshake. Envoy refuses such a chain unless both kinds of resumption are off.
func (t *Template) onDemandChain(c *listenerv3.FilterChain, d *tlsv3.DownstreamTlsContext) error {
	c.Name = onDemandName
	c.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
	d.SessionTicketKeysType = &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{
		DisableStatelessSessionResumption: true,
	}
	d.DisableStatefulSessionResumption = true
	mapper, err := anypb.New(&sniv3.SNI{DefaultValue: noSNI})
	if err != nil {
		return err
	}
	selector, err := anypb.New(&ondemandv3.Config{ConfigSource: certificates,
		CertificateMapper: &corev3.TypedExtensionConfig{Name: "sni", TypedConfig: mapper}})
	if err != nil {
		return err
	}
	d.CommonTlsContext.CustomTlsCertificateSelector = &corev3.TypedExtensionConfig{Name: onDemandName,
		TypedConfig: selector}
	return nil
}

// encode makes a chain from the template's, completed by fill, and encodes it with its field's
// tag.
func (t *Template) encode(fill func(*listenerv3.FilterChain, *tlsv3.DownstreamTlsContext) error) ([]byte, error) {
	c, d := proto.CloneOf(t.chain), proto.CloneOf(t.tls)
	if err := fill(c, d); err != nil {
		return nil, bad("%v", err)
	}
	socket := new(anypb.Any)
	if err := anypb.MarshalFrom(socket, d, deterministic); err != nil {
		return nil, bad("%v", err)
	}
	c.TransportSocket = &corev3.TransportSocket{Name: tlsSocket,
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: socket}}
	for _, m := range []interface{ ValidateAll() error }{c, d} {
		if err := m.ValidateAll(); err != nil {
			return nil, bad("%v", err)
		}
	}
	b, err := deterministic.Marshal(c)
	if err != nil {
		return nil, bad("%v", err)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, fieldFilterChains, protowire.BytesType), b), nil
}

// overSDS returns the config source of rings. On ADS a client's SNI could ask for one. The header
// says that the stream is for a ring.
func overSDS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3, InitialFetchTimeout: ringWithin,
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{
				InitialMetadata: []*corev3.HeaderValue{{Key: xds.KindHeader, Value: xds.KindRing}},
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: Cluster,
					RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
						BaseInterval: durationpb.New(200 * time.Millisecond),
						MaxInterval:  durationpb.New(2 * time.Second),
					}},
				}},
			}},
		}},
	}
}
