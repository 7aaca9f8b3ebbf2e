package lds

import (
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Template is a listener without its chains, and what the chains are made of. It does not change.
type Template struct {
	name     string
	digest   string                      // of the file
	port     uint16                      // where it listens; 0 if not on a port
	base     []byte                      // the encoded listener without filter chains
	chain    *listenerv3.FilterChain     // without match, name and transport socket
	tls      *tlsv3.DownstreamTlsContext // what all chains have in common
	clients  keysource.Authorities       // clients are the CAs of clients.
	opt      Options
	onDemand []byte // the encoded field filter_chains of the on-demand chain
}

const (
	tlsInspector = "envoy.filters.listener.tls_inspector"
	tlsSocket    = "envoy.transport_sockets.tls"
)

// Parse reads a template. That is one listener (YAML) with its name, address and exactly one
// filter chain, whose filters every host gets. The chain may have a transport socket with settings
// of TLS (tls_params, alpn_protocols, validation_context). Lockstepd writes certificates, session
// tickets and matches. The error wraps [ErrBadTemplate].
func Parse(text []byte, o Options) (*Template, error) {
	t, faults := parseAll(text, o)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	return t, nil
}

// lasting returns t with another lifetime of tickets.
func (t *Template) lasting(d time.Duration) *Template {
	if t.opt.TicketLifetime == d {
		return t
	}
	other := *t
	other.opt.TicketLifetime = d
	return &other
}

// Faults returns everything for which Parse refuses a text that is a listener, or the one error of
// a text that is none. Each wraps [ErrBadTemplate].
func Faults(text []byte, o Options) []error {
	_, faults := parseAll(text, o)
	return faults
}

func parseAll(text []byte, o Options) (_ *Template, faults []error) {
	l, err := decode(text)
	if err != nil {
		return nil, []error{err}
	}
	refuse := func(is bool, words string) {
		if is {
			faults = append(faults, bad("%s", words))
		}
	}
	refuse(l.GetName() == "", "name is missing: Envoy tells listeners apart by it")
	refuse(l.GetAddress() == nil, "address is missing")
	refuse(l.GetUdpListenerConfig() != nil ||
		l.GetAddress().GetSocketAddress().GetProtocol() == corev3.SocketAddress_UDP,
		"it is for UDP: Envoy fetches no certificates on demand for QUIC")
	refuse(l.GetFilterChainMatcher() != nil || l.GetFcdsConfig() != nil,
		"filter_chain_matcher and fcds_config cannot stand there: which chain takes a connection "+
			"is lockstepd's to say, by server name")
	if n := len(l.GetFilterChains()); n != 1 {
		return nil, append(faults, bad("%d filter_chains: there must be exactly one, whose filters every host gets", n))
	}
	t := &Template{name: l.GetName(), port: uint16(l.GetAddress().GetSocketAddress().GetPortValue()),
		chain: l.GetFilterChains()[0], opt: o}
	m := t.chain.GetFilterChainMatch()
	refuse(m != nil && proto.Size(m) > 0, "filter_chain_match cannot stand there: lockstepd writes one for each host")
	refuse(len(t.chain.GetFilters()) == 0, "the filter chain has no filters")
	var more []error
	t.tls, t.clients, more = parseTLS(t.chain.GetTransportSocket(), o)
	if faults = append(faults, more...); len(faults) > 0 {
		return nil, faults
	}
	if err := t.complete(l); err != nil {
		return nil, []error{err}
	}
	return t, nil
}

// complete makes what is served of a listener in which nothing is wrong so far.
func (t *Template) complete(l *listenerv3.Listener) (err error) {
	if t.chain.TransportSocketConnectTimeout == nil {
		t.chain.TransportSocketConnectTimeout = connectTimeout
	}
	l.FilterChains = nil
	if err := fill(l); err != nil {
		return err
	}
	if t.base, err = deterministic.Marshal(l); err != nil {
		return bad("%v", err)
	}
	if t.onDemand, err = t.encode(t.onDemandChain); err != nil {
		return err
	}
	_, err = t.eager("template.invalid", false) // what fails for one host fails for all
	return err
}

// Name returns the listener's name.
func (t *Template) Name() string { return t.name }

// fill adds what every listener with such chains needs.
func fill(l *listenerv3.Listener) error {
	if !slices.ContainsFunc(l.ListenerFilters, func(f *listenerv3.ListenerFilter) bool {
		return f.GetTypedConfig().MessageIs(&tlsinspectorv3.TlsInspector{})
	}) {
		inspector, err := anypb.New(&tlsinspectorv3.TlsInspector{})
		if err != nil {
			return err
		}
		l.ListenerFilters = append(l.ListenerFilters, &listenerv3.ListenerFilter{
			Name: tlsInspector, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: inspector},
		})
	}
	// Envoy's statistics of each certificate are a large part of what a name costs.
	if l.StatsMatcher == nil {
		pattern := &matcherv3.StringMatcher_Contains{Contains: ".ssl.certificate."}
		l.StatsMatcher = &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_ExclusionList{
			ExclusionList: &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{{MatchPattern: pattern}}},
		}}
	}
	return nil
}

// parseTLS returns what the template says of TLS. It refuses what only lockstepd may say.
func parseTLS(s *corev3.TransportSocket, o Options) (
	_ *tlsv3.DownstreamTlsContext, _ keysource.Authorities, faults []error,
) {
	d := new(tlsv3.DownstreamTlsContext)
	if s != nil {
		if err := s.GetTypedConfig().UnmarshalTo(d); err != nil {
			return nil, nil, []error{bad("transport_socket: it must hold a DownstreamTlsContext, and holds %q",
				s.GetTypedConfig().GetTypeUrl())}
		}
	}
	if d.CommonTlsContext == nil {
		d.CommonTlsContext = new(tlsv3.CommonTlsContext)
	}
	c := d.CommonTlsContext
	for _, f := range []struct {
		set  bool
		name string
	}{
		{len(c.GetTlsCertificates()) > 0, "tls_certificates"},
		{len(c.GetTlsCertificateSdsSecretConfigs()) > 0, "tls_certificate_sds_secret_configs"},
		{c.GetTlsCertificateProviderInstance() != nil, "tls_certificate_provider_instance"},
		{c.GetCustomTlsCertificateSelector() != nil, "custom_tls_certificate_selector"},
		{d.GetSessionTicketKeysType() != nil, "session_ticket_keys and disable_stateless_session_resumption"},
		{d.GetDisableStatefulSessionResumption(), "disable_stateful_session_resumption"},
		{d.GetSessionTimeout() != nil, "session_timeout"},
	} {
		if f.set {
			faults = append(faults, bad("transport_socket: %s cannot stand there: lockstepd writes what concerns "+
				"certificates and session tickets", f.name))
		}
	}
	if c.TlsParams == nil {
		c.TlsParams = &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3}
	}
	if s == nil {
		c.AlpnProtocols = []string{"h2", "http/1.1"}
	}
	cas, err := checkClients(d, o)
	if err != nil {
		faults = append(faults, err)
	}
	return d, cas, faults
}

// checkClients refuses a template that treats client certificates differently from the scope.
// It returns the CAs of clients. It writes several of them in an order that is always the same, and
// one in the form that Envoy reads.
func checkClients(d *tlsv3.DownstreamTlsContext, o Options) (keysource.Authorities, error) {
	c := d.GetCommonTlsContext()
	none := o.ClientCerts == "" || o.ClientCerts == "none"
	ca := c.GetValidationContext().GetTrustedCa()
	asks := d.GetRequireClientCertificate().GetValue()
	switch {
	case c.GetValidationContextType() == nil && !asks && none:
		return nil, nil
	case none:
		return nil, bad("transport_socket: it asks for client certificates, and the listeners of scope %s ask for "+
			"none (client_certs: none): a ticket made without one "+
			"would pass here; use a scope of its own, whose client_certs is the SHA-256 of the CA", o.Scope)
	case !asks || ca == nil:
		return nil, bad("transport_socket: the listeners of scope %s ask for client certificates (client_certs: %s): "+
			"it needs require_client_certificate: true and "+
			"validation_context.trusted_ca", o.Scope, o.ClientCerts)
	}
	text := ca.GetInlineBytes()
	if s := ca.GetInlineString(); s != "" {
		text = []byte(s)
	}
	all, err := keysource.ParseAuthorities(text)
	if err != nil {
		return nil, bad("transport_socket: validation_context.trusted_ca must be certificates as inline_string "+
			"(PEM), since lockstepd compares them with what scope %s declares: %v", o.Scope, err)
	}
	if other := all.Undeclared(o.ClientCerts); other != "" {
		return nil, bad("transport_socket: scope %s declares another CA (client_certs: %s) than that of "+
			"validation_context.trusted_ca (%s): list both there while one replaces the other", o.Scope,
			o.ClientCerts, other)
	}
	if !all.AsIs(text) {
		ca.Specifier = &corev3.DataSource_InlineString{InlineString: string(all.PEM())}
	}
	return all, nil
}
