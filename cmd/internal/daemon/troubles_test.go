package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

type deltaStream interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
	Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
}

// puppet is one delta stream of a node whose answers are given by hand.
type puppet struct {
	t      *testing.T
	node   *corev3.Node
	stream deltaStream
	last   *discoveryv3.DeltaDiscoveryResponse
}

// puppet connects a node on ADS, or with a kind on the SDS service, and asks for names.
func newPuppet(t *testing.T, r *running, node, kind string, names ...string) *puppet {
	t.Helper()
	conn, err := grpc.NewClient(r.xdsListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &puppet{t: t, node: &corev3.Node{Id: node, UserAgentName: "envoy"}}
	if kind == "" {
		p.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	} else {
		ctx := metadata.AppendToOutgoingContext(t.Context(), xds.KindHeader, kind)
		p.stream, err = secretv3.NewSecretDiscoveryServiceClient(conn).DeltaSecrets(ctx)
	}
	if err == nil {
		err = p.stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: p.node, TypeUrl: sds.TypeURL, ResourceNamesSubscribe: names,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// takes waits for a response with the version (to the letter before its mark), whose answer is
// words; empty: an ACK. What comes before it is acknowledged.
func (p *puppet) takes(words string, is func(version string) bool) {
	p.t.Helper()
	for {
		resp, err := p.stream.Recv()
		if err != nil {
			p.t.Fatal(err)
		}
		found := false
		for _, r := range resp.Resources {
			found = found || is(r.Version)
		}
		ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: sds.TypeURL, ResponseNonce: resp.Nonce}
		if found && words != "" {
			ack.ErrorDetail = &statuspb.Status{Code: 3, Message: words}
		}
		if err := p.stream.Send(ack); err != nil {
			p.t.Fatal(err)
		}
		if p.last = resp; found {
			return
		}
	}
}

func counts(version string) bool   { _, believed := xds.Content(version); return believed }
func standsIn(version string) bool { return strings.HasPrefix(version, "stand-in-") }

// eventually waits until f returns "".
func eventually(t *testing.T, f func() string) {
	t.Helper()
	var why string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if why = f(); why == "" {
			return
		}
	}
	t.Fatal(why)
}

func (r *running) status(t *testing.T) api.Status {
	t.Helper()
	s, err := r.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ills is why it is degraded; that the events are not there yet does not count.
func (r *running) ills(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(r.status(t).Degraded, func(s string) bool {
		return strings.HasPrefix(s, "events are down")
	})
}

// holder is how explain shows a node's certificate.
func (r *running) holder(t *testing.T, name, node string) api.Holder {
	t.Helper()
	e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(e.Holders, func(h api.Holder) bool { return h.Node == node })
	if i < 0 {
		return api.Holder{}
	}
	return e.Holders[i]
}

func (r *running) secret(t *testing.T, node, name string) api.Secret {
	t.Helper()
	n, err := r.client.Nodes(t.Context(), node)
	if err != nil {
		return api.Secret{State: err.Error()} // it may not be there yet
	}
	for _, row := range n.Nodes {
		for _, s := range row.Secrets {
			if s.Name == name {
				return s
			}
		}
	}
	return api.Secret{}
}

func is(t *testing.T, what string, got *string, want string) string {
	t.Helper()
	if *got != want {
		return what + ": " + *got + ", want " + want
	}
	return ""
}

func TestARefusedCertificateMakesStatusDegradedUntilItIsMended(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	put := func() string {
		t.Helper()
		if _, err := r.client.ImportCerts(t.Context(),
			tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
			t.Fatal(err)
		}
		c, err := r.client.Cert(t.Context(), "shop.example")
		if err != nil {
			t.Fatal(err)
		}
		return c.Version
	}
	good := put()
	version := func(want string) func(string) bool {
		return func(v string) bool { c, believed := xds.Content(v); return c == want && believed }
	}
	n := newPuppet(t, r, "envoy-1", "", "chain:shop.example")
	n.takes("", version(good))
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "at first", &h.State, "accepted")
	})
	if d := r.status(t); len(r.ills(t)) != 0 || d.Troubles == nil || len(d.Troubles) != 0 {
		t.Fatalf("%+v", d)
	}

	bad := put()
	n.takes("KEY_USAGE_BIT_INCORRECT", version(bad))
	n.takes("", version(good)) // the remedy
	for range 3 {              // it stays so
		eventually(t, func() string {
			h := r.holder(t, "shop.example", "envoy-1")
			if h.Note != "it serves "+good+" in its place" || h.Version != bad || h.At.IsZero() {
				return h.Note + " " + h.Version
			}
			return is(t, "explain", &h.State, "refused")
		})
	}
	d := r.status(t)
	if len(d.Troubles) != 1 || d.Troubles[0].State != "refused" || d.Troubles[0].Nodes != 1 ||
		d.Troubles[0].Words != "KEY_USAGE_BIT_INCORRECT" || d.Troubles[0].Name != "chain:shop.example" {
		t.Errorf("%+v", d.Troubles)
	}
	if ills := r.ills(t); len(ills) != 1 || !strings.Contains(ills[0], "refused by 1 nodes") ||
		!strings.Contains(ills[0], "envoy-1: KEY_USAGE_BIT_INCORRECT") {
		t.Errorf("%q", ills)
	}
	if c := r.ledger().Counts(context.Background(), time.Now()); c.Refused != 1 || c.StandIns != 0 || c.Stuck != 0 {
		t.Errorf("%+v", c)
	}

	mended := put()
	n.takes("", version(mended))
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "mended", &h.State, "accepted")
	})
	if ills := r.ills(t); len(ills) != 0 {
		t.Errorf("%q", ills)
	}
}

func TestAStandInAndANodeThatIsStuckMakeStatusDegraded(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
		t.Fatal(err)
	}
	n := newPuppet(t, r, "envoy-1", "", "chain:shop.example")
	n.takes("no", counts) // there is no earlier one
	n.takes("", standsIn)
	eventually(t, func() string {
		d := r.status(t)
		if len(d.Troubles) != 1 {
			return "no trouble"
		}
		return is(t, "a stand-in", &d.Troubles[0].State, "stand-in")
	})
	if c := r.ledger().Counts(context.Background(), time.Now()); c.StandIns != 1 {
		t.Errorf("%+v", c)
	}

	n = newPuppet(t, r, "envoy-2", "", "chain:shop.example")
	n.takes("no", counts)
	n.takes("no again", standsIn)
	eventually(t, func() string {
		if d := r.status(t); len(d.Troubles) != 2 || d.Troubles[0].State != "stuck" ||
			!strings.Contains(strings.Join(d.Degraded, ";"), "restart this Envoy: envoy-2: no again") {
			return strings.Join(d.Degraded, ";")
		}
		return ""
	})
	h := r.holder(t, "shop.example", "envoy-2")
	if c := r.ledger().Counts(context.Background(), time.Now()); c.Stuck != 1 || !strings.Contains(h.Note, "restart") {
		t.Errorf("%+v, explain %+v", c, h)
	}
}

func TestANodeWithoutARingServesNoCertificate(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
		t.Fatal(err)
	}
	ring := newPuppet(t, r, "envoy-1", xds.KindRing, "tickets/default")
	n := newPuppet(t, r, "envoy-1", "", "chain:shop.example")
	n.takes("", counts)
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "explain", &h.State, "waits for its ring")
	})
	if got := r.secret(t, "envoy-1", "chain:shop.example"); got.State != "waits for its ring" || got.Note == "" {
		t.Errorf("nodes: %+v", got)
	}
	if d := r.status(t); len(d.Troubles) != 0 {
		t.Errorf("at once: %+v", d.Troubles)
	}
	eventually(t, func() string {
		all := r.ledger().Troubles(t.Context(), time.Now().Add(11*time.Second))
		if len(all) != 1 || all[0].State != "no ring" {
			return "after a while there is no trouble"
		}
		return is(t, "after a while", &all[0].Words, "has not answered")
	})
	ring.takes("bad ring", counts)
	eventually(t, func() string {
		d := r.status(t)
		if len(d.Troubles) != 1 || d.Troubles[0].Words != "refused its first ring: bad ring" {
			return "a first ring was refused, and it is not shown"
		}
		return is(t, "status", &d.Troubles[0].State, "no ring")
	})
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "refused", &h.State, "waits for its ring")
	})

	n.takes("", counts) // each certificate is offered alone, since one may be what ails the ring
	ring.takes("", counts)
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "explain", &h.State, "accepted")
	})
	if ills := r.ills(t); len(ills) != 0 {
		t.Errorf("%q", ills)
	}
	// A second process under the same id has none: the worst counts.
	newPuppet(t, r, "envoy-3", xds.KindRing, "tickets/nowhere")
	eventually(t, func() string {
		s := r.secret(t, "envoy-3", "tickets/nowhere")
		return is(t, "a scope that is not configured", &s.State, "no ring")
	})
	all := r.ledger().Troubles(t.Context(), time.Now().Add(11*time.Second))
	if len(all) != 1 || !strings.Contains(all[0].Words, "not configured") || all[0].Node != "envoy-3" {
		t.Errorf("%+v", all)
	}
}

func TestOfTwoStreamsOfANodeTheWorseCounts(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
		t.Fatal(err)
	}
	for i, words := range []string{"", "no", ""} {
		n := newPuppet(t, r, "envoy-1", "", "chain:shop.example")
		n.takes(words, counts)
		want := "accepted"
		if i > 0 {
			want = "refused"
		}
		eventually(t, func() string {
			h := r.holder(t, "shop.example", "envoy-1")
			return is(t, "explain", &h.State, want)
		})
		if got := r.secret(t, "envoy-1", "chain:shop.example"); got.State != want {
			t.Errorf("stream %d: nodes says %s, want %s", i, got.State, want)
		}
	}
	e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "shop.example"})
	if err != nil || len(e.Holders) != 1 {
		t.Errorf("%+v %v", e.Holders, err)
	}
}

func TestWhileTheNewestCertificateCannotBeUsedNobodyHasAcceptedIt(t *testing.T) {
	certs, s := t.TempDir(), newShop(t)
	write := func(chain []byte) {
		t.Helper()
		folder := filepath.Join(certs, "shop.example")
		p := s.pair("shop.example", 0, "shop.example")
		if chain == nil {
			chain = p.Chain
		}
		for file, b := range map[string][]byte{"tls.key": p.Key, "tls.crt": chain} {
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, file), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(nil)
	r := start(t, func(c *config.Config) { c.Certs = certs })
	n := newPuppet(t, r, "envoy-1", "", "chain:shop.example")
	n.takes("", counts)
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "at first", &h.State, "accepted")
	})
	write([]byte("no certificate"))
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "explain", &h.State, "stale")
	})
	h := r.holder(t, "shop.example", "envoy-1")
	e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "shop.example"})
	if err != nil || !strings.Contains(h.Note, "earlier certificate") || !strings.Contains(h.Note, certs) ||
		!strings.Contains(e.Verdict, "cannot be used") || e.Found != "yes" {
		t.Errorf("%+v\n%+v %v", h, e, err)
	}
	write(nil)
	n.takes("", counts)
	eventually(t, func() string {
		h := r.holder(t, "shop.example", "envoy-1")
		return is(t, "mended", &h.State, "accepted")
	})
}
