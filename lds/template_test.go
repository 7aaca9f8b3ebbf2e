package lds

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

func TestEachEagerHostHasAChainOfItsOwnAndTheRestShareOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.SetHosts(names("shop.example *.blog.example"))
		l.serve()
		got := listenerOf(t, l.sent(""))
		if f := got.GetListenerFilters(); len(f) != 1 || f[0].GetName() != tlsInspector {
			t.Errorf("listener filters %v", f)
		}
		if got.GetStatsMatcher() == nil {
			t.Error("no stats_matcher")
		}
		_, order := chains(t, l.sent(""))
		if order != "*.blog.example shop.example on-demand" {
			t.Fatalf("chains: %s", order)
		}
		prefix := ""
		for i, c := range got.GetFilterChains() {
			if c.GetTransportSocketConnectTimeout().AsDuration() <= 0 {
				t.Errorf("%s: a handshake may hang for ever", c.GetName())
			}
			if p := string(c.GetFilters()[0].GetTypedConfig().GetValue()); i > 0 && p != prefix {
				t.Errorf("%s: other filters than the chain before", c.GetName())
			} else {
				prefix = p
			}
			d, m := downstream(t, c), c.GetFilterChainMatch()
			certs, ring := d.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs(),
				d.GetSessionTicketKeysSdsSecretConfig()
			if c.GetName() == onDemandName {
				if m.GetTransportProtocol() != "tls" || len(m.GetServerNames()) != 0 ||
					!d.GetDisableStatelessSessionResumption() ||
					!d.GetDisableStatefulSessionResumption() ||
					d.GetCommonTlsContext().GetCustomTlsCertificateSelector() == nil || len(certs) != 0 {
					t.Errorf("the on-demand chain is %v", c)
				}
				continue
			}
			if len(m.GetServerNames()) != 1 || m.GetServerNames()[0] != c.GetName() {
				t.Errorf("%s matches %v", c.GetName(), m)
			}
			if len(certs) != 1 || certs[0].GetName() != "chain:"+c.GetName() ||
				certs[0].GetSdsConfig().GetAds() == nil {
				t.Errorf("%s: certificate %v, want its own by ADS", c.GetName(), certs)
			}
			if certs[0].GetSdsConfig().GetInitialFetchTimeout().AsDuration() <= 0 {
				t.Errorf("%s: a certificate that never comes holds up all hosts", c.GetName())
			}
			if ring.GetName() != "tickets/blue" || ring.GetSdsConfig().GetApiConfigSource() == nil ||
				ring.GetSdsConfig().GetInitialFetchTimeout().AsDuration() != 0 {
				t.Errorf("%s: ring %v, want the scope's by the SDS service, waited for", c.GetName(), ring)
			}
			if d.GetSessionTimeout().AsDuration() != options.TicketLifetime {
				t.Errorf("%s: session_timeout %v", c.GetName(), d.GetSessionTimeout())
			}
		}
	})
}

// Envoy gives a second watch on a certificate nothing: chains must name its source alike,
// whichever version of lockstepd has made them.
func TestCertificatesComeFromOneSource(t *testing.T) {
	// ads {}, resource_api_version V3, initial_fetch_timeout 10s
	const want = "\x1a\x00\x30\x02\x22\x02\x08\x0a"
	p, err := Parse([]byte(example(t)), options)
	check(t, err)
	b, err := newBuild(p, names("a.example"), nil, nil, func(string, []keysource.Name) {})
	check(t, err)
	for _, c := range listenerOf(t, b.listener("")).GetFilterChains() {
		common := downstream(t, c).GetCommonTlsContext()
		source := new(corev3.ConfigSource)
		if s := common.GetCustomTlsCertificateSelector(); s != nil {
			selector := new(ondemandv3.Config)
			check(t, s.GetTypedConfig().UnmarshalTo(selector))
			source = selector.GetConfigSource()
		} else {
			source = common.GetTlsCertificateSdsSecretConfigs()[0].GetSdsConfig()
		}
		got, err := deterministic.Marshal(source)
		check(t, err)
		other := new(corev3.ConfigSource)
		check(t, proto.Unmarshal([]byte(want), other))
		if !proto.Equal(source, other) {
			t.Errorf("%s: the source is %q: %v", c.GetName(), got, source)
		}
	}
}

func TestWhatTheTemplateSaysOfTLSStays(t *testing.T) {
	p, err := Parse([]byte(withTLS(t, "common_tls_context: {tls_params: {tls_minimum_protocol_version: TLSv1_3}, "+
		"alpn_protocols: [\"h2\"]}, prefer_client_ciphers: true")), options)
	check(t, err)
	b, err := newBuild(p, names("a.example"), nil, nil, func(string, []keysource.Name) {})
	check(t, err)
	for _, c := range listenerOf(t, b.listener("")).GetFilterChains() {
		d := downstream(t, c)
		if a := d.GetCommonTlsContext().GetAlpnProtocols(); len(a) != 1 || a[0] != "h2" ||
			!d.GetPreferClientCiphers() ||
			d.GetCommonTlsContext().GetTlsParams().GetTlsMinimumProtocolVersion().String() != "TLSv1_3" {
			t.Errorf("%s: %v", c.GetName(), d)
		}
	}
}

// withTLS is the example with a transport socket.
func withTLS(t testing.TB, fields string) string {
	return example(t) + `
  transport_socket:
    name: "tls"
    typed_config: {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", ` + fields + "}\n"
}

func TestATemplateThatCannotBeUsedIsRefusedByName(t *testing.T) {
	change := func(old, new string) string {
		text := strings.Replace(example(t), old, new, 1)
		if text == example(t) {
			t.Fatalf("the example has no %q", old)
		}
		return text
	}
	for _, c := range []struct{ text, want string }{
		{"", "it is empty"},
		{"{}", "name is missing"},
		{"[1]", "unexpected token"},
		{"a: b: c", "mapping value is not allowed"},
		{change(`name: "tls"`, `nam: "tls"`), `unknown field "nam"`},
		{change(`name: "tls"`, ``), "name is missing"},
		{change("address:", "stat_prefix: x #"), "address is missing"},
		{change("router.v3.Router", "router.v9.Router"), "router.v9.Router"},
		{change("use_remote_address: true", "use_remote_adress: true"), "use_remote_adress"},
		{change(`stat_prefix: "tls"`, `stat_prefix: ""`), "StatPrefix"},
		{change("port_value: 8443", "port_value: 99999"), "PortValue"},
		{change("{socket_address: {", "{socket_address: {protocol: UDP, "), "it is for UDP"},
		{change("- filters:", "- filter_chain_match: {server_names: [a.example]}\n  filters:"), "filter_chain_match"},
		{example(t) + "- name: second\n", "2 filter_chains"},
		{"name: x\naddress: {socket_address: {address: \"127.0.0.1\", port_value: 1}}\nfilter_chains: [{}]\n",
			"no filters"},
		{"name: x\naddress: {socket_address: {address: \"127.0.0.1\", port_value: 1}}\n", "0 filter_chains"},
		{withTLS(t, "session_timeout: 1s"), "session_timeout"},
		{withTLS(t, "disable_stateless_session_resumption: true"), "disable_stateless_session_resumption"},
		{withTLS(t, "common_tls_context: {tls_certificate_sds_secret_configs: [{name: x}]}"),
			"tls_certificate_sds_secret_configs"},
		{withTLS(t, "require_client_certificate: true"), "it asks for client certificates"},
		{strings.ReplaceAll(withTLS(t, ""), "tls.v3.DownstreamTlsContext", "tls.v3.UpstreamTlsContext"),
			"must hold a DownstreamTlsContext"},
		{strings.Repeat("#", maxTemplate+1), "at most"},
	} {
		_, err := Parse([]byte(c.text), options)
		if !errors.Is(err, ErrBadTemplate) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if testing.Verbose() {
			t.Log(err)
		}
	}
}

// authority is a self-signed CA (PEM), and the SHA-256 of it.
func authority(t *testing.T) (text, sum string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1),
		NotAfter: time.Now().Add(time.Hour), IsCA: true}, &x509.Certificate{}, key.Public(), key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		fmt.Sprintf("%x", sha256.Sum256(der))
}

func TestATemplateIsOfTheKindThatItsScopeDeclares(t *testing.T) {
	ca, declared := authority(t)
	other, otherDeclared := authority(t)
	third, _ := authority(t)
	both := declared + "," + otherDeclared
	asks := func(ca string) string {
		return withTLS(t, fmt.Sprintf("require_client_certificate: true, common_tls_context: "+
			"{validation_context: {trusted_ca: {inline_string: %q}}}", ca))
	}
	for _, c := range []struct{ declared, text, want string }{
		{declared, asks(ca), ""},
		{"", example(t), ""},
		{"none", asks(ca), "ask for none"},
		{declared, example(t), "ask for client certificates"},
		{declared, asks(other), "declares another CA"},
		{declared, asks(ca + other), "declares another CA"},
		{declared, asks("# ours\n" + ca + ca), ""},
		{both, asks(ca + other), ""},
		{both, asks(other), ""},
		{both, asks(ca + third), "declares another CA"},
		{declared, asks(ca + "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n"), "PRIVATE KEY"},
		{declared, withTLS(t, "require_client_certificate: true, common_tls_context: {validation_context: "+
			"{trusted_ca: {filename: /ca.pem}}}"), "inline_string"},
		{declared, strings.Replace(asks(ca), "require_client_certificate: true, ", "", 1),
			"needs require_client_certificate"},
	} {
		o := options
		o.ClientCerts = c.declared
		_, err := Parse([]byte(c.text), o)
		if (err == nil) != (c.want == "") || err != nil &&
			(!errors.Is(err, ErrBadTemplate) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// A ticket must not outlive the removal of a CA, since Envoy binds it to the first one alone. The
// same CAs in another order are no change.
func TestTicketsAreBoundToAllClientCAsOfATemplate(t *testing.T) {
	a, declaredA := authority(t)
	b, declaredB := authority(t)
	o := options
	o.ClientCerts = declaredA + "," + declaredB
	names := func(ca string) []string {
		p, err := Parse([]byte(withTLS(t, fmt.Sprintf("require_client_certificate: true, common_tls_context: "+
			"{validation_context: {trusted_ca: {inline_string: %q}}}", ca))), o)
		check(t, err)
		build, err := newBuild(p, names("a.example *.b.example"), nil, nil, func(string, []keysource.Name) {})
		check(t, err)
		var all []string
		for _, c := range listenerOf(t, build.listener("")).GetFilterChains() {
			all = append(all, strings.Join(c.GetFilterChainMatch().GetServerNames(), " "))
		}
		return all
	}
	one, two, turned := names(a), names(a+b), names(b+a+b)
	if one[0] != "a.example" && one[0] != "*.b.example" || slices.Equal(one, two) || !slices.Equal(two, turned) {
		t.Errorf("one CA: %q; two: %q; turned: %q", one, two, turned)
	}
	p, err := Parse([]byte(withTLS(t, fmt.Sprintf("require_client_certificate: true, common_tls_context: "+
		"{validation_context: {trusted_ca: {inline_string: %q}}}", "\uFEFF"+a))), o)
	check(t, err)
	if text := p.tls.GetCommonTlsContext().GetValidationContext().GetTrustedCa().GetInlineString(); text != a {
		t.Errorf("Envoy does not read a CA behind a byte order mark: %q", text)
	}
	seen := map[string]bool{}
	for _, all := range two {
		for _, name := range strings.Fields(all) {
			if seen[name] {
				t.Errorf("two chains have %s, which Envoy refuses", name)
			}
			seen[name] = true
		}
	}
}

func FuzzTemplate(f *testing.F) {
	// Short ones: what is interesting is first made smaller, and that takes the time of the
	// fuzzer.
	f.Add([]byte(`{name: x, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: a, typed_config: ` +
		`{"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]}`))
	f.Add([]byte(`{name: x, address: {pipe: {path: /x}}, filter_chains: [{filters: [{name: a}], ` +
		`transport_socket: {name: t, typed_config: {"@type": ` +
		`type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, ` +
		`common_tls_context: {alpn_protocols: [h2]}}}}]}`))
	f.Add([]byte("name: x\naddress: {pipe: {path: /x}}\nfilter_chains: [{filters: [{name: a}]}]\n"))
	f.Add([]byte("{name: x, filter_chains: [{filters: [{name: a, typed_config: {\"@type\": " +
		"type.googleapis.com/envoy.x}}]}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text, options)
		if err != nil {
			if !errors.Is(err, ErrBadTemplate) {
				t.Fatalf("%v is no ErrBadTemplate", err)
			}
			return
		}
		send := func(p *Template) *xds.Resource {
			b, err := newBuild(p, names("a.example *.b.example"), nil, nil, func(string, []keysource.Name) {})
			check(t, err)
			return b.listener("")
		}
		first := send(p)
		if n := len(listenerOf(t, first).GetFilterChains()); n != 3 {
			t.Fatalf("%d chains", n)
		}
		again, err := Parse(text, options)
		check(t, err)
		if !proto.Equal(first.Body, (&anypb.Any{TypeUrl: TypeURL, Value: send(again).Body.Value})) {
			t.Fatal("read twice, it is not the same")
		}
	})
}
