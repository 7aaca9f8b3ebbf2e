package bootstrap

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

var update = flag.Bool("update", false, "write deploy/envoy/eager.yaml")

// example are the options behind deploy/envoy/eager.yaml.
func example() Options {
	return Options{
		Node:     "edge-1",
		XDS:      []string{"unix:/run/lockstep/xds.sock"},
		Admin:    "127.0.0.1:19000",
		Listen:   "127.0.0.1:18443",
		Hosts:    []string{"shop.example", "bank.example", "*.blog.example"},
		Upstream: "127.0.0.1:8080",
	}
}

// decode reads one YAML document as Envoy does: through JSON, strictly, with the protos' own rules.
func decode(t *testing.T, doc []byte, into interface {
	proto.Message
	ValidateAll() error
}) {
	t.Helper()
	js, err := yaml.YAMLToJSON(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(js, into); err != nil {
		t.Fatalf("%v in:\n%s", err, doc)
	}
	if err := into.ValidateAll(); err != nil {
		t.Fatal(err)
	}
}

func downstream(t *testing.T, chain *listenerv3.FilterChain) *tlsv3.DownstreamTlsContext {
	t.Helper()
	d := new(tlsv3.DownstreamTlsContext)
	if err := chain.GetTransportSocket().GetTypedConfig().UnmarshalTo(d); err != nil {
		t.Fatal(err)
	}
	return d
}

// checkChain holds the rules that keep tickets alive.
func checkChain(t *testing.T, chain *listenerv3.FilterChain, host, ring string, lifetime time.Duration) {
	t.Helper()
	if got := chain.GetFilterChainMatch().GetServerNames(); len(got) != 1 || got[0] != host {
		t.Errorf("chain matches %v, want %q alone", got, host)
	}
	if chain.GetTransportSocketConnectTimeout().AsDuration() <= 0 {
		t.Errorf("%s: a handshake may hang for ever", host)
	}
	d := downstream(t, chain)
	if d.GetSessionTimeout().AsDuration() != lifetime {
		t.Errorf("%s: session_timeout %v, want %v", host, d.GetSessionTimeout().AsDuration(), lifetime)
	}
	params := d.GetCommonTlsContext().GetTlsParams()
	if params.GetTlsMinimumProtocolVersion() != tlsv3.TlsParameters_TLSv1_2 ||
		params.GetTlsMaximumProtocolVersion() != tlsv3.TlsParameters_TLSv1_3 {
		t.Errorf("%s: versions %v", host, params)
	}
	certs := d.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs()
	if len(certs) != 1 || certs[0].GetName() != host || certs[0].GetSdsConfig().GetAds() == nil {
		t.Errorf("%s: certificate %v, want one by ADS", host, certs)
	}
	keys := d.GetSessionTicketKeysSdsSecretConfig()
	if keys.GetName() != ring || keys.GetSdsConfig().GetApiConfigSource() == nil {
		t.Errorf("%s: ring %v, want %q by the SDS service", host, keys, ring)
	}
	for _, s := range append(certs, keys) {
		if timeout := s.GetSdsConfig().GetInitialFetchTimeout(); timeout == nil || timeout.AsDuration() != 0 {
			t.Errorf("%s: %s: initial_fetch_timeout %v, want 0s", host, s.GetName(), timeout)
		}
	}
}

func TestBootstrapHasOneChainPerHost(t *testing.T) {
	o := example()
	o.Hosts = append(o.Hosts, "Straße.example")
	o.Scope, o.TicketLifetime = "emea", 90*time.Minute
	o.XDS = append(o.XDS, "127.0.0.2:18001") // a replica of another machine beside that of this one
	b, err := Envoy(o)
	if err != nil {
		t.Fatal(err)
	}
	got := new(bootstrapv3.Bootstrap)
	decode(t, b, got)
	chains := got.GetStaticResources().GetListeners()[0].GetFilterChains()
	want := []string{"shop.example", "bank.example", "*.blog.example", "xn--strae-oqa.example"}
	if len(chains) != len(want) {
		t.Fatalf("%d chains, want %d", len(chains), len(want))
	}
	for i, host := range want {
		checkChain(t, chains[i], host, "tickets/emea", 90*time.Minute)
	}
	if n := len(
		got.GetStaticResources().GetClusters()[0].GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints(),
	); n != 2 {
		t.Errorf("%d endpoints of the control plane, want 2", n)
	}
}

func TestAnAddressHasAChainByDestination(t *testing.T) {
	o := example()
	o.Hosts = []string{"shop.example", "[2001:DB8::1]", "192.0.2.1"}
	b, err := Envoy(o)
	if err != nil {
		t.Fatal(err)
	}
	got := new(bootstrapv3.Bootstrap)
	decode(t, b, got)
	for i, want := range []string{"2001:db8::1/128 192.0.2.1/32 0.0.0.0/0 ::/0 [shop.example]", "2001:db8::1/128 []",
		"192.0.2.1/32 []"} {
		m := got.GetStaticResources().GetListeners()[0].GetFilterChains()[i].GetFilterChainMatch()
		said := ""
		for _, r := range m.GetPrefixRanges() {
			said += fmt.Sprintf("%s/%d ", r.GetAddressPrefix(), r.GetPrefixLen().GetValue())
		}
		if said += fmt.Sprint(m.GetServerNames()); said != want {
			t.Errorf("chain %d matches %s, want %s", i, said, want)
		}
	}
	if err := fleet.ValidateEnvoy(t.Context(), b); err != nil {
		t.Error(err)
	}
	o.Hosts, o.Mode, o.Fallback = nil, OnDemand, "[::1]"
	if b, err = Envoy(o); err != nil || !bytes.Contains(b, []byte(`default_value: "::1"`)) {
		t.Errorf("%v, %s", err, b)
	}
	o.Mode = Hybrid
	if _, err := Envoy(o); !errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), "fallback") {
		t.Errorf("a fallback where lockstepd has the listener: %v", err)
	}
}

// statsOf lists the patterns of statistics that Envoy does not keep.
func statsOf(b *bootstrapv3.Bootstrap) int {
	return len(b.GetStatsConfig().GetStatsMatcher().GetExclusionList().GetPatterns())
}

func TestEachModeIsWhatEnvoyTakes(t *testing.T) {
	for _, mode := range []Mode{"", Eager, OnDemand, Hybrid} {
		o := example()
		o.Mode = mode
		if mode == OnDemand || mode == Hybrid {
			o.Hosts = nil
		}
		if mode == Hybrid {
			o.Listen = ""
		}
		b, err := Envoy(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := fleet.ValidateEnvoy(t.Context(), b); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		got := new(bootstrapv3.Bootstrap)
		decode(t, b, got)
		if statsOf(got) != 2 {
			t.Errorf("%s: the statistics of each certificate are kept", mode)
		}
		lds := got.GetDynamicResources().GetLdsConfig()
		if (lds != nil) != (mode == Hybrid) || (len(got.GetStaticResources().GetListeners()) == 0) != (mode == Hybrid) {
			t.Errorf("%s: listeners %v, lds_config %v", mode, got.GetStaticResources().GetListeners(), lds)
		}
		switch mode {
		case Hybrid:
			if lds.GetAds() == nil || lds.GetInitialFetchTimeout() == nil ||
				lds.GetInitialFetchTimeout().AsDuration() != 0 {
				t.Errorf("lds_config %v", lds)
			}
		case OnDemand:
			chains := got.GetStaticResources().GetListeners()[0].GetFilterChains()
			d := downstream(t, chains[0])
			if len(chains) != 1 || chains[0].GetTransportSocketConnectTimeout().AsDuration() <= 0 ||
				!d.GetDisableStatelessSessionResumption() ||
				!d.GetDisableStatefulSessionResumption() ||
				d.GetCommonTlsContext().GetCustomTlsCertificateSelector() == nil {
				t.Errorf("the on-demand listener has the chains %v", chains)
			}
		}
	}
}

// YAML reads each of these, unquoted, as something else.
func TestStringsStayStrings(t *testing.T) {
	for _, id := range []string{
		"n", "on", "1e3", "0x10", "null", "~", "1.0", "2026-01-01", "a: b", "- a", "#a", `"`, `\`, "{", "*ring", "&a",
		"!a", "é\u2028\n", "'", "%a", "{{.Ring}}", " a ",
	} {
		o := example()
		o.Node, o.Cluster, o.Scope = id, id, ""
		b, err := Envoy(o)
		if err != nil {
			t.Fatal(err)
		}
		got := new(bootstrapv3.Bootstrap)
		decode(t, b, got)
		if got.GetNode().GetId() != id || got.GetNode().GetCluster() != id {
			t.Errorf("%q came out as %q and %q", id, got.GetNode().GetId(), got.GetNode().GetCluster())
		}
		if err := fleet.ValidateEnvoy(t.Context(), b); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestExampleIsWhatBootstrapMakes(t *testing.T) {
	b, err := Envoy(example())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("..", "..", "..", "deploy", "envoy", "eager.yaml")
	if *update {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b) {
		t.Errorf("%s is not what Envoy makes; type: go test ./cmd/internal/bootstrap -update", file)
	}
}

// mtls makes the files of a node.
func mtls(t *testing.T) *TLS {
	t.Helper()
	ca, err := fleet.NewCA("Test CA")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(fleet.Leaf{URIs: []string{"spiffe://fleet.example/edge/1"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := fleet.WriteHost(dir, "node", pair); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return &TLS{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "node", "tls.crt"),
		Key: filepath.Join(dir, "node", "tls.key"),
	}
}

func TestControlPlaneIsChecked(t *testing.T) {
	files := mtls(t)
	for _, test := range []struct {
		name, server string
		xds          []string
		sni, sans    string
	}{
		{"addresses", "", []string{"127.0.0.1:18000", "[::1]:18000"}, "", "IP_ADDRESS 127.0.0.1, IP_ADDRESS ::1"},
		{"names", "", []string{"a.internal:18000", "b.internal:18000", "a.internal:18001"},
			"a.internal", "DNS a.internal, DNS b.internal"},
		{"SPIFFE ID", "spiffe://fleet.example/lockstepd", []string{"127.0.0.1:18000"}, "",
			"URI spiffe://fleet.example/lockstepd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := example()
			tls := *files
			tls.ServerName, o.XDS, o.TLS = test.server, test.xds, &tls
			b, err := Envoy(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := fleet.ValidateEnvoy(t.Context(), b); err != nil {
				t.Error(err)
			}
			got := new(bootstrapv3.Bootstrap)
			decode(t, b, got)
			up := new(tlsv3.UpstreamTlsContext)
			if err := got.GetStaticResources().GetClusters()[0].GetTransportSocket().
				GetTypedConfig().UnmarshalTo(up); err != nil {
				t.Fatal(err)
			}
			var sans []string
			for _, s := range up.GetCommonTlsContext().GetValidationContext().GetMatchTypedSubjectAltNames() {
				sans = append(sans, s.GetSanType().String()+" "+s.GetMatcher().GetExact())
			}
			if up.GetSni() != test.sni || strings.Join(sans, ", ") != test.sans {
				t.Errorf("SNI %q, SANs %v; want %q, %s", up.GetSni(), sans, test.sni, test.sans)
			}
		})
	}
}

func TestSnippetFitsAnExistingBootstrap(t *testing.T) {
	o := Options{XDS: []string{"127.0.0.1:18000"}, TLS: mtls(t), Hosts: []string{"shop.example", "bank.example"}}
	b, err := Snippet(o)
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.Split(string(b), "\n---\n")
	if len(docs) != 3 {
		t.Fatalf("%d documents, want 3", len(docs))
	}
	top := new(bootstrapv3.Bootstrap)
	if decode(t, []byte(docs[0]), top); statsOf(top) != 2 {
		t.Error("the statistics of each certificate are kept")
	}
	listener := "  listeners:\n  - name: \"mine\"\n" +
		"    address: {socket_address: {address: \"127.0.0.1\", port_value: 18443}}\n" +
		"    listener_filters: [{name: \"i\", typed_config: {\"@type\": " +
		"\"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector\"}}]\n" +
		"    filter_chains:\n"
	for i, host := range o.Hosts {
		chain := new(listenerv3.FilterChain)
		decode(t, []byte(docs[i+1]), chain)
		checkChain(t, chain, host, "tickets/default", 2*time.Hour)
		listener += "    -\n" + indent(docs[i+1])
	}
	whole := "node: {id: \"mine\", cluster: \"mine\"}\n" + docs[0] + "\n" + listener
	if err := fleet.ValidateEnvoy(t.Context(), []byte(whole)); err != nil {
		t.Errorf("%v\n%s", err, whole)
	}
	// What a parser sees must be what was split.
	dec := yaml.NewDecoder(bytes.NewReader(b))
	for n := 0; ; n++ {
		var doc map[string]any
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			if n != len(docs) {
				t.Errorf("a parser finds %d documents", n)
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func indent(doc string) string {
	return "      " + strings.ReplaceAll(strings.TrimSpace(doc), "\n", "\n      ") + "\n"
}

func TestBadOptionsAreNamed(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(*Options)
	}{
		{"node: every Envoy needs", func(o *Options) { o.Node = "" }},
		{"xds: at least one", func(o *Options) { o.XDS = nil }},
		{`xds: "127.0.0.1" is not host:port`, func(o *Options) { o.XDS = []string{"127.0.0.1"} }},
		{`xds: "127.0.0.1:0" has no port`, func(o *Options) { o.XDS = []string{"127.0.0.1:0"} }},
		{`xds: "a b" is neither`, func(o *Options) { o.XDS = []string{"a b:1"} }},
		{"xds: DNS names are mixed with IP addresses", func(o *Options) {
			o.XDS = []string{"127.0.0.1:1", "a.internal:1"}
		}},
		{"tls: ca, cert and key go together", func(o *Options) {
			o.XDS, o.TLS = []string{"127.0.0.1:18000"}, &TLS{CA: "ca.pem"}
		}},
		{"is a socket, and TLS is not spoken there", func(o *Options) { o.TLS = &TLS{"ca.pem", "c.pem", "k.pem", ""} }},
		{"xds: the path /aaaa", func(o *Options) { o.XDS = []string{"unix:/" + strings.Repeat("a", 107)} }},
		{"begins with a slash", func(o *Options) { o.XDS = []string{"unix:xds.sock"} }},
		{"xds: DNS names are mixed", func(o *Options) { o.XDS = append(o.XDS, "a.internal:1") }},
		{`admin: "localhost": Envoy listens on IP`, func(o *Options) { o.Admin = "localhost:19000" }},
		{`listen: "" is not host:port`, func(o *Options) { o.Listen = "" }},
		{`upstream: "127.0.0.1:99999"`, func(o *Options) { o.Upstream = "127.0.0.1:99999" }},
		{"hosts: at least one", func(o *Options) { o.Hosts = nil }},
		{"hosts: not a server name", func(o *Options) { o.Hosts = []string{"tickets/default"} }},
		{`hosts: "shop.example" stands there twice`, func(o *Options) {
			o.Hosts = []string{"shop.example", "SHOP.example."}
		}},
		{`mode: "both" is neither`, func(o *Options) { o.Mode = "both" }},
		{"hosts: none are named in mode hybrid", func(o *Options) { o.Mode = Hybrid }},
		{`scope: "a/b" has a slash`, func(o *Options) { o.Scope = "a/b" }},
		{"ticket lifetime: 25h0m0s", func(o *Options) { o.TicketLifetime = 25 * time.Hour }},
		{"ticket lifetime: 1.5s", func(o *Options) { o.TicketLifetime = 1500 * time.Millisecond }},
	} {
		o := example()
		test.change(&o)
		if _, err := Envoy(o); !errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
}

// The chain of a host with two certificates names both, in a bootstrap and in a snippet. Envoy
// takes it.
func TestAChainNamesBothCertificatesOfAHost(t *testing.T) {
	o := example()
	o.Hosts = []string{"shop.example", "Bank.example:rsa", "bank.example", "*.blog.example", "*.blog.example:rsa"}
	want := map[string]string{"shop.example": "shop.example", "bank.example": "bank.example bank.example:rsa",
		"*.blog.example": "*.blog.example *.blog.example:rsa"}
	b, err := Envoy(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := fleet.ValidateEnvoy(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	got := new(bootstrapv3.Bootstrap)
	decode(t, b, got)
	chains := got.GetStaticResources().GetListeners()[0].GetFilterChains()
	s, err := Snippet(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range strings.Split(string(s), "\n---\n")[1:] {
		chain := new(listenerv3.FilterChain)
		decode(t, []byte(doc), chain)
		chains = append(chains, chain)
	}
	if len(chains) != 2*len(want) {
		t.Errorf("%d chains", len(chains))
	}
	for _, chain := range chains {
		host := chain.GetFilterChainMatch().GetServerNames()[0]
		var names []string
		for _, c := range downstream(t, chain).GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
			names = append(names, c.GetName())
			if c.GetSdsConfig().GetAds() == nil || c.GetSdsConfig().GetInitialFetchTimeout().AsDuration() != 0 {
				t.Errorf("%s: %v", host, c)
			}
		}
		if strings.Join(names, " ") != want[host] {
			t.Errorf("the chain of %s names %v, want %s", host, names, want[host])
		}
	}
	o.Hosts = []string{"shop.example", "bank.example:rsa"}
	if _, err := Envoy(o); !errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), "not among them") {
		t.Errorf("%v", err)
	}
}
