package daemon

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/archive"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// shop issues certificates, all with one CA.
type shop struct {
	t  *testing.T
	ca *fleet.CA
}

func newShop(t *testing.T) shop {
	ca, err := fleet.NewCA("Inventory CA")
	if err != nil {
		t.Fatal(err)
	}
	return shop{t, ca}
}

func (s shop) pair(folder string, valid time.Duration, names ...string) archive.Pair {
	s.t.Helper()
	p, err := s.ca.Issue(fleet.Leaf{Names: names, Valid: valid})
	if err != nil {
		s.t.Fatal(err)
	}
	return archive.Pair{Folder: folder, PEM: keysource.PEM{Chain: p.Chain, Key: p.Key}}
}

func tarOf(t *testing.T, pairs ...archive.Pair) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range pairs {
		if err := p.Write(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestAnImportStoresTheGoodNamesTheBadAndIsWrittenDownAsOne(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	many := s.pair("a.many.example", 0, "*.many.example")
	good := []archive.Pair{s.pair("Shop.Example", 0, "shop.example"), s.pair("_.api.example", 0, "*.api.example"), many}
	all := append(slices.Clone(good), s.pair("wrong.example", 0, "other.example"),
		archive.Pair{Folder: "bad name", PEM: many.PEM},
		archive.Pair{Folder: "cut.example", PEM: keysource.PEM{Chain: many.Chain[:200], Key: many.Key}},
		s.pair("over.example", -time.Hour, "over.example"))
	done, err := r.client.ImportCerts(t.Context(), tarOf(t, all...))
	if err != nil || done.Stored != 3 || done.Same != 0 || len(done.Failed) != 4 {
		t.Fatalf("%+v %v", done, err)
	}
	for folder, words := range map[string]string{
		"wrong.example": "bad certificate: it is for [\"other.example\"]", "bad name": "not a server name",
		"cut.example": "broken or cut short", "over.example": "expired",
	} {
		if !slices.ContainsFunc(done.Failed, func(f api.ImportFailed) bool {
			return f.Folder == folder && strings.Contains(f.Error, words)
		}) {
			t.Errorf("%s is not named with %q: %+v", folder, words, done.Failed)
		}
	}
	log, err := r.client.Audit(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	line := log.Lines[len(log.Lines)-1]
	if line.What != "certs-put" || line.Times != 3 || line.Actor != "local administrator" ||
		line.Name != "shop.example … a.many.example" {
		t.Errorf("%+v", line)
	}
	items, err := r.client.AuditItems(t.Context(), line.Items)
	if err != nil || len(items.Items) != 3 {
		t.Fatalf("%+v %v", items, err)
	}
	for _, it := range items.Items {
		c, err := r.client.Cert(t.Context(), it.Name)
		if err != nil || c.Version != it.Key || c.Source != "store" || len(c.Fingerprint) != 64 {
			t.Errorf("%s: %+v %v, want version %s", it.Name, c, err, it.Key)
		}
	}
	if found, err := r.client.VerifyAudit(t.Context()); err != nil || len(found.Reports[0].Problems) > 0 {
		t.Errorf("%+v %v", found, err)
	}

	again, err := r.client.ImportCerts(t.Context(), tarOf(t, good...))
	if err != nil || again.Stored != 3 || again.Same != 3 {
		t.Errorf("again: %+v %v", again, err)
	}
	if now, err := r.client.Audit(t.Context(), 10); err != nil || len(now.Lines) != len(log.Lines) {
		t.Errorf("what changed nothing was written down: %+v %v", now, err)
	}
}

func TestAnImportIsRefusedWithoutAnAuditLogAndWithoutTheToken(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	pair := s.pair("shop.example", 0, "shop.example")
	repair := breakLog(t, r)
	var answer *api.Error
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, pair)); !errors.As(err, &answer) ||
		answer.Code != api.Refused || !strings.Contains(answer.Message, "audit log cannot be written") {
		t.Errorf("without an audit log: %v", err)
	}
	repair(r.Daemon)
	stranger := &api.Client{Base: r.client.Base, HTTP: r.client.HTTP, Token: "guess"}
	if _, err := stranger.ImportCerts(t.Context(), tarOf(t, pair)); !errors.As(err, &answer) ||
		answer.Code != api.Denied {
		t.Errorf("without the token: %v", err)
	}
	if err := r.data.Vault.Freeze(t.Context(), "me", "moving", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, pair)); !errors.As(err, &answer) ||
		answer.Code != api.Refused {
		t.Errorf("into a frozen store: %v", err)
	}
	if _, err := r.client.Cert(t.Context(), "shop.example"); !errors.As(err, &answer) || answer.Code != api.NotFound {
		t.Errorf("it was stored nevertheless: %v", err)
	}
}

func TestPagesMakeUpTheWholeListWhateverTheirSize(t *testing.T) {
	certs, s := t.TempDir(), newShop(t)
	var folders []archive.Pair
	write := func(p archive.Pair) {
		folders = append(folders, p)
		if err := fleet.WriteHost(certs, p.Folder, fleet.Pair{Chain: p.Chain, Key: p.Key}); err != nil {
			t.Fatal(err)
		}
	}
	soon := 48 * time.Hour
	for _, name := range []string{"1.example", "both.example", "m.example", "zz.example"} {
		write(s.pair(name, soon, name))
	}
	write(archive.Pair{Folder: "no name", PEM: keysource.PEM{Chain: []byte("x"), Key: []byte("x")}})
	r := start(t, func(c *config.Config) { c.Certs = certs })
	var stored []archive.Pair
	for i := range 40 {
		name := fmt.Sprintf("n%02d.example", i)
		stored = append(stored, s.pair(name, time.Duration(i+1)*24*time.Hour, name))
	}
	stored = append(stored, s.pair("both.example", 0, "both.example"),
		s.pair("_.wild.example", 0, "*.wild.example"), s.pair("0.example", 0, "0.example"))
	if done, err := r.client.ImportCerts(t.Context(), tarOf(t, stored...)); err != nil || done.Stored != len(stored) {
		t.Fatalf("%+v %v", done, err)
	}
	for _, key := range []string{"cert/n05=ZZ", "cert/=2Am=zz", "cert/=2A", "cert/n10/x", "cert/m=20.example"} {
		// no names, as only somebody else writes them
		if _, err := r.data.Vault.Raw.Swap(t.Context(), key, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	leaves := map[string]string{}
	leaf := func(p archive.Pair, source string) {
		name, err := p.Name()
		if block, _ := pem.Decode(p.Chain); err == nil && block != nil {
			leaves[string(name)+" "+source] = fmt.Sprintf("%x", sha256.Sum256(block.Bytes))
		}
	}
	for _, p := range stored {
		leaf(p, "store")
	}
	for _, p := range folders {
		leaf(p, "directory")
	}
	collect := func(q api.CertsQuery) (names []string) {
		t.Helper()
		for range 100 {
			l, err := r.client.Certs(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if q.Limit > 0 && len(l.Certs) > q.Limit+1 { // a name that both have is not torn apart
				t.Errorf("a page of %d, not %d", len(l.Certs), q.Limit)
			}
			for _, c := range l.Certs {
				leaf := leaves[c.Name+" "+c.Source]
				if c.Fingerprint != leaf {
					t.Errorf("%s: fingerprint %q, want %q", c.Name, c.Fingerprint, leaf)
				}
				if names = append(names, c.Name+" "+c.Source); c.Source == "store" &&
					strings.ContainsAny(c.Name, "=/") && !strings.Contains(c.Problem, "is not that of a server name") {
					t.Errorf("%+v", c)
				}
			}
			if q.After = l.Next; l.Next == "" {
				return names
			}
		}
		t.Fatal("there is no end")
		return nil
	}
	all := collect(api.CertsQuery{})
	if len(all) != 4+1+5+len(stored) || !slices.IsSorted(all) || !slices.Contains(all, "both.example directory") ||
		!slices.Contains(all, "both.example store") {
		t.Errorf("%q", all)
	}
	for limit := 1; limit < 12; limit++ {
		if got := collect(api.CertsQuery{Limit: limit}); !slices.Equal(got, all) {
			t.Errorf("pages of %d: %q, want %q", limit, got, all)
		}
	}
	if got := collect(api.CertsQuery{Prefix: "n1", Limit: 3}); len(got) != 11 || got[0] != "n10.example store" {
		t.Errorf("a prefix: %q", got)
	}
	within := 10*24*time.Hour - time.Hour
	if got := collect(api.CertsQuery{Expires: &within, Limit: 4}); len(got) != 9+4+3 {
		// n00 to n08, the directory's, and what is valid for a day
		t.Errorf("within 10 days: %q", got)
	}
	if got := collect(api.CertsQuery{Expires: new(time.Duration)}); len(got) != 0 {
		t.Errorf("expired: %q", got)
	}
	var answer *api.Error
	if _, err := r.client.Certs(t.Context(), api.CertsQuery{Limit: api.MaxPage + 1}); !errors.As(err, &answer) ||
		answer.Code != api.Usage {
		t.Errorf("more than a page: %v", err)
	}
}

func TestExplainSaysWhichCertificateANameGetsAndWhyNotAnother(t *testing.T) {
	certs, s := t.TempDir(), newShop(t)
	p := s.pair("dir.example", 0, "dir.example", "*.dir.example")
	if err := fleet.WriteHost(certs, "dir.example", fleet.Pair{Chain: p.Chain, Key: p.Key}); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *config.Config) { c.Certs = certs })
	var stored []archive.Pair
	for _, n := range []string{
		"dir.example", "*.wild.example", "a.wild.example", "broken.example", "*.b.example", "x.b.example",
	} {
		stored = append(stored, s.pair(strings.Replace(n, "*", "_", 1), 0, n))
	}
	if done, err := r.client.ImportCerts(t.Context(), tarOf(t, stored...)); err != nil || len(done.Failed) > 0 {
		t.Fatalf("%+v %v", done, err)
	}
	for _, key := range []string{"cert/broken.example", "cert/x.b.example"} {
		// somebody changes what is stored
		raw, rev, err := r.data.Vault.Raw.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-1] ^= 1
		if _, err := r.data.Vault.Raw.Swap(t.Context(), key, rev, raw); err != nil {
			t.Fatal(err)
		}
	}
	for asked, want := range map[string]struct{ found, name, source, looked, verdict string }{
		"DIR.example.": {"yes", "dir.example", "directory", "used shadowed", "from the directory"},
		"b.wild.example": {
			"yes", "*.wild.example", "store", "absent absent absent used", "gets the certificate of *.wild.example",
		},
		"a.wild.example":   {"yes", "a.wild.example", "store", "absent used absent shadowed", "from the store"},
		"c.a.wild.example": {"no", "", "", "absent absent absent absent", "neither a name nor a wildcard"},
		"broken.example":   {"unknown", "", "", "absent unreadable", "could not be read"},
		"x.b.example":      {"unknown", "", "", "absent unreadable absent shadowed", "does not open"},
		"no such_thing":    {"no", "", "", "", "not a server name"},
		"127.0.0.1":        {"no", "", "", "absent absent", "no certificate"},
		"fe80::1%lo":       {"no", "", "", "", "zone"},
	} {
		e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: asked})
		if err != nil {
			t.Errorf("%s: %v", asked, err)
			continue
		}
		var looked []string
		for _, l := range e.Looked {
			looked = append(looked, l.Outcome)
		}
		name, source := "", ""
		if e.Cert != nil {
			name, source = e.Cert.Name, e.Cert.Source
		}
		if e.Found != want.found || name != want.name || source != want.source ||
			strings.Join(looked, " ") != want.looked || !strings.Contains(e.Verdict, want.verdict) {
			t.Errorf("%s: %+v, want %+v", asked, e, want)
		}
	}
	st, err := r.client.Status(t.Context())
	if err != nil || !strings.Contains(strings.Join(st.Certs.Problems, "\n"), "broken.example in the store") ||
		!strings.Contains(strings.Join(st.Degraded, "\n"),
			"2 certificates have a problem: broken.example, x.b.example") {
		t.Errorf("status: %+v %v", st, err)
	}
	if metrics := r.metrics(t); !strings.Contains(metrics, "lockstep_certificate_problems 2\n") {
		t.Errorf("the metrics do not count the stored certificates:\n%s", metrics)
	}
}

func TestExplainSaysWhatThePolicyForbids(t *testing.T) {
	file, s := filepath.Join(t.TempDir(), "policy.yaml"), newShop(t)
	rules := "rules:\n- {identity: \"spiffe://fleet.example/edge\", names: [\"shop.example\"]}\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *config.Config) { c.Policy = file })
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
		t.Fatal(err)
	}
	for identity, want := range map[string]string{
		"": "yes", "spiffe://fleet.example/edge": "yes", "spiffe://fleet.example/other": "no",
	} {
		e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "shop.example", Identity: identity})
		if err != nil || e.Found != want || (e.Denied != "") != (want == "no") || e.Cert == nil {
			t.Errorf("%q: %+v %v, want %s", identity, e, err, want)
		}
	}
	asks(t, r, "plain", "other.example")
	if e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "shop.example"}); err != nil ||
		len(e.Doors) != 1 || e.Doors[0].Node != "plain" || e.Doors[0].Why != "policy" {
		t.Errorf("a node is connected that may not have it: %+v %v", e.Doors, err)
	}
}

func TestExplainNamesTheNodesThatHoldACertificate(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(r.xdsListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "edge"}, TypeUrl: sds.TypeURL,
		ResourceNamesSubscribe: []string{"SHOP.example", "none.example"},
	}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < 2; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got += len(resp.Resources) + len(resp.RemovedResources)
	}
	e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "shop.example", Node: "edge"})
	if err != nil || len(e.Holders) != 1 || e.Holders[0].Node != "edge" || e.Holders[0].Name != "SHOP.example" ||
		e.Holders[0].Version != e.Cert.Version || e.Found != "yes" {
		t.Errorf("%+v %v", e, err)
	}
	var answer *api.Error
	if _, err := r.client.Explain(t.Context(), api.ExplainQuery{
		Name: "shop.example", Node: "nobody",
	}); !errors.As(err, &answer) || answer.Code != api.NotFound {
		t.Errorf("for a node that is not there: %v", err)
	}
}

func TestExplainSaysWhichChainANameGetsAndWhoHoldsItUnderAnotherName(t *testing.T) {
	r, s := start(t, func(c *config.Config) {
		c.Listeners.Template, c.Listeners.Hosts = "../../../deploy/envoy/listener.yaml", []string{"shop.example"}
	}), newShop(t)
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.PinHost(t.Context(), "*.blog.example"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"shop.example":   "eager shop.example config",
		"a.blog.example": "eager *.blog.example pin", "tail.example": "on-demand  ",
	} {
		var got string
		for deadline := time.Now().Add(10 * time.Second); got != want &&
			time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: name})
			if err != nil || e.Chain == nil {
				t.Fatalf("%s: %+v %v", name, e, err)
			}
			got = e.Chain.Kind + " " + e.Chain.Host + " " + e.Chain.By
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "no such_thing"}); err != nil || e.Chain != nil {
		t.Errorf("no server name: %+v %v", e, err)
	}

	conn, err := grpc.NewClient(r.xdsListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, ask := range map[string]string{"chain": "chain:shop.example", "istio": "sds://shop.example"} {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: name}, TypeUrl: sds.TypeURL, ResourceNamesSubscribe: []string{ask},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "shop.example"})
	if err != nil || len(e.Holders) != 2 || e.Holders[0].Name != "chain:shop.example" ||
		e.Holders[1].Name != "sds://shop.example" {
		t.Errorf("%+v %v", e.Holders, err)
	}
}

// A new file that cannot be used is said at once, with the version that is served on.
func TestABrokenNewFileIsSaidBesideWhatIsServedOn(t *testing.T) {
	certs, s := t.TempDir(), newShop(t)
	good := s.pair("shop.example", 0, "shop.example")
	if err := fleet.WriteHost(certs, "shop.example", fleet.Pair{Chain: good.Chain, Key: good.Key}); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *config.Config) { c.Certs = certs })
	asks(t, r, "edge-1", "shop.example")
	had, err := r.client.Cert(t.Context(), "shop.example")
	if err != nil {
		t.Fatal(err)
	}
	bad := s.pair("shop.example", -time.Hour, "shop.example")
	if err := fleet.WriteHost(certs, "shop.example", fleet.Pair{Chain: bad.Chain, Key: bad.Key}); err != nil {
		t.Fatal(err)
	}
	e, err := r.client.Explain(t.Context(), api.ExplainQuery{Name: "shop.example"})
	if err != nil || len(e.Looked) == 0 || e.Looked[0].Outcome != "used" ||
		!strings.HasPrefix(e.Looked[0].Words, "the last good one: ") ||
		!strings.Contains(e.Looked[0].Words, "expired") || e.Cert == nil || e.Cert.Version != had.Version ||
		!strings.Contains(e.Verdict, "a newer version that cannot be used") {
		t.Errorf("at once: %+v %v", e, err)
	}
	testkit.Until(t, func() error {
		l, err := r.client.Certs(t.Context(), api.CertsQuery{})
		if err != nil || len(l.Certs) != 1 || l.Certs[0].Version != had.Version || !strings.Contains(l.Certs[0].Problem,
			"version "+had.Version+" is served on, since the files cannot be used: ") {
			return fmt.Errorf("%+v %v", l, err)
		}
		st, err := r.client.Status(t.Context())
		if err != nil || len(st.Certs.Problems) != 1 || st.Certs.Problems[0] != l.Certs[0].Problem {
			return fmt.Errorf("%+v %v", st.Certs, err)
		}
		return nil
	})
}
