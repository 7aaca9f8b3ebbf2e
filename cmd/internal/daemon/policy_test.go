package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// sdsNode is a node on one SDS stream, which accepts what it is sent.
type sdsNode struct {
	t      *testing.T
	stream secretv3.SecretDiscoveryService_DeltaSecretsClient
	news   chan string // "+name version", "-name"
	leave  func()
}

func join(t *testing.T, addr, id string, names ...string) *sdsNode {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &sdsNode{t: t, news: make(chan string, 64)}
	if n.stream, err = secretv3.NewSecretDiscoveryServiceClient(conn).DeltaSecrets(ctx,
		grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	if err := n.stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: id, UserAgentName: xds.EdgeAgent}, TypeUrl: sds.TypeURL, ResourceNamesSubscribe: names,
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			resp, err := n.stream.Recv()
			if err != nil {
				return
			}
			for _, r := range resp.Resources {
				n.news <- "+" + r.Name
			}
			for _, name := range resp.RemovedResources {
				n.news <- "-" + name
			}
			if n.stream.Send(&discoveryv3.DeltaDiscoveryRequest{
				TypeUrl: sds.TypeURL, ResponseNonce: resp.Nonce,
			}) != nil {
				return
			}
		}
	}()
	n.leave = sync.OnceFunc(func() {
		cancel()
		conn.Close()
		<-done
	})
	t.Cleanup(n.leave)
	return n
}

// gets waits for exactly these, in any order, and for nothing else to come soon after.
func (n *sdsNode) gets(what ...string) {
	n.t.Helper()
	want := map[string]bool{}
	for _, w := range what {
		want[w] = true
	}
	for len(want) > 0 {
		select {
		case got := <-n.news:
			if !want[got] {
				n.t.Fatalf("got %s, want %v", got, want)
			}
			delete(want, got)
		case <-time.After(10 * time.Second):
			n.t.Fatalf("%v did not come", want)
		}
	}
	select {
	case got := <-n.news:
		n.t.Fatalf("got %s as well", got)
	case <-time.After(100 * time.Millisecond):
	}
}

// guarded is a daemon on a unix socket with a policy for this process's user.
type guarded struct {
	*running
	socket, file string
}

func startGuarded(t *testing.T, policy string) *guarded {
	dir := t.TempDir()
	g := &guarded{socket: filepath.Join(dir, "s"), file: filepath.Join(dir, "policy.yaml")}
	g.write(t, policy)
	certs := filepath.Join(dir, "certs")
	for _, n := range []string{"a.example", "b.example"} {
		identitytest.Certify(t, certs, n)
	}
	g.running = start(t, func(c *config.Config) {
		c.XDSListen, c.Policy, c.Certs = "unix:"+g.socket, g.file, certs
		c.Scopes = map[string]rotation.Policy{"default": rotation.DefaultPolicy(), "partners": rotation.DefaultPolicy()}
	})
	return g
}

// write replaces the policy; ME stands for this process's user.
func (g *guarded) write(t *testing.T, policy string) {
	t.Helper()
	policy = strings.ReplaceAll(policy, "ME", fmt.Sprintf("unix:uid=%d", os.Getuid()))
	if err := errors.Join(os.WriteFile(g.file+".new", []byte(policy), 0o600),
		os.Rename(g.file+".new", g.file)); err != nil {
		t.Fatal(err)
	}
}

func (g *guarded) metric(t *testing.T, line string) error {
	resp, err := g.client.HTTP.Get(g.client.Base + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK && !strings.Contains(string(b), "\n"+line+"\n") {
		err = fmt.Errorf("no %q in /metrics", line)
	}
	return err
}

const wide = `rules: [{identity: "ME", scopes: [default], names: [a.example]}]`

func TestANodeGetsWhatItsIdentityAllows(t *testing.T) {
	g := startGuarded(t, wide)
	n := join(t, "unix:"+g.socket, "edge-1", "a.example", "b.example", "tickets/default", "tickets/partners")
	n.gets("+a.example", "-b.example", "+tickets/default")
	if fi, err := os.Stat(g.socket); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("%v %v: other users cannot connect", fi.Mode(), err)
	}
	nodes, err := g.client.Nodes(t.Context(), "edge-1")
	if want := fmt.Sprintf("unix:uid=%d", os.Getuid()); err != nil || nodes.Nodes[0].Identity != want {
		t.Errorf("%+v %v, want the identity %s", nodes, err, want)
	}
	if err := errors.Join(g.metric(t, `lockstep_policy_denied_total{kind="certificate"} 1`),
		g.metric(t, `lockstep_policy_denied_total{kind="ring"} 1`)); err != nil {
		t.Error(err)
	}
	st, err := g.rolls.Status("partners")
	if err != nil || len(st.Members) != 0 {
		t.Errorf("a node that may not have the ring is waited for: %+v %v", st.Members, err)
	}
}

// What a new policy takes away is removed from open streams, and the node is no longer waited for;
// what it gives back comes back.
func TestAPolicyCountsOnOpenStreams(t *testing.T) {
	g := startGuarded(t, wide)
	n := join(t, "unix:"+g.socket, "edge-1", "a.example", "b.example", "tickets/default")
	n.gets("+a.example", "-b.example", "+tickets/default")
	members := func(want int) func() error {
		return func() error {
			st, err := g.rolls.Status("default")
			if err == nil && len(st.Members) != want {
				err = fmt.Errorf("%d members, want %d", len(st.Members), want)
			}
			return err
		}
	}
	testkit.Until(t, members(1))

	g.write(t, `rules: [{identity: "ME", names: [b.example]}]`)
	n.gets("-a.example", "+b.example")
	testkit.Until(t, members(0))
	if _, err := g.client.Rotate(t.Context(), "default", api.RotateRequest{}); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, func() error {
		st, err := g.rolls.Status("default")
		if err == nil && (st.Phase != rotation.Steady || st.Ended != 1) {
			err = fmt.Errorf("the rotation waits: %s", st.Phase)
		}
		return err
	})
	n.gets() // it is told nothing of it

	for _, bad := range []string{"rules: [{identity: ME}]", "", "nonsense"} {
		g.write(t, bad)
		testkit.Until(t, func() error {
			if err := g.metric(t, "lockstep_policy_in_force 0"); err != nil {
				return err
			}
			st, err := g.client.Status(t.Context())
			if err == nil && !strings.Contains(strings.Join(st.Degraded, " "), "the last good one stays") {
				err = fmt.Errorf("degraded: %q", st.Degraded)
			}
			return err
		})
		n.gets()
	}
	if err := os.Remove(g.file); err != nil {
		t.Fatal(err)
	}
	n.gets()

	g.write(t, wide)
	n.gets("+a.example", "-b.example", "+tickets/default")
	testkit.Until(t, members(1))
	testkit.Until(t, func() error { return g.metric(t, "lockstep_policy_in_force 1") })

	// Taken away and given back without a rotation in between: it holds the ring, is sent none, and
	// is a member that has accepted it.
	g.write(t, `rules: [{identity: "ME", names: [a.example]}]`)
	testkit.Until(t, members(0))
	g.write(t, wide)
	testkit.Until(t, func() error {
		st, err := g.rolls.Status("default")
		if err == nil && (len(st.Members) != 1 || st.Members[0].Floor != st.Generation) {
			err = fmt.Errorf("%+v", st.Members)
		}
		return err
	})
	n.gets()
}

// policyLinesOf are the digests and reasons of the lines on the policy.
func policyLinesOf(t *testing.T, r *running) (keys, why []string) {
	t.Helper()
	log, err := r.client.Audit(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range log.Lines {
		if l.What == "policy" {
			keys, why = append(keys, l.Key), append(why, l.Why)
		}
	}
	return keys, why
}

// A policy that was changed while nobody ran is written down before it counts; one that was not is
// not written down again.
func TestAPolicyThatWasChangedWhileNobodyRanIsWrittenDown(t *testing.T) {
	g := startGuarded(t, wide)
	cfg := g.cfg
	again := func(change func(*config.Config)) *running {
		t.Helper()
		if err := g.stop(); err != nil {
			t.Fatal(err)
		}
		g.running = start(t, func(c *config.Config) {
			*c = cfg
			if change != nil {
				change(c)
			}
		})
		return g.running
	}
	without := func(c *config.Config) { c.Policy = "" }
	digest := func() string {
		b, err := os.ReadFile(g.file)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	want := []string{digest()}
	check := func(r *running) {
		t.Helper()
		if keys, why := policyLinesOf(t, r); !slices.Equal(keys, want) {
			t.Errorf("lines on the policy: %q (%q), want %q", keys, why, want)
		}
	}
	check(g.running)
	check(again(nil)) // the same

	g.write(t, `rules: [{identity: "ME", scopes: ["*"], names: ["*"]}]`)
	want = append(want, digest())
	check(again(nil))

	g.write(t, wide) // while it runs
	want = append(want, digest())
	testkit.Until(t, func() error {
		if keys, _ := policyLinesOf(t, g.running); len(keys) != len(want) {
			return fmt.Errorf("%q", keys)
		}
		return nil
	})
	check(again(nil))

	want = append(want, "")
	check(again(without))
	check(again(without))
	_, why := policyLinesOf(t, g.running)
	if last := why[len(why)-1]; !strings.Contains(last, "no policy") {
		t.Error(last)
	}
	want = append(want, digest())
	check(again(nil))

	// Where it cannot be written down, it does not count: no node is let in, and that is said. The
	// log is whole again, and they are.
	repair := breakLog(t, g.running)
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	g.write(t, `rules: [{identity: "ME", names: [b.example]}]`)
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	r := &running{
		Daemon: d, client: &api.Client{
			Base: "http://" + d.adminListener.Addr().String(), Token: d.data.Token, HTTP: g.client.HTTP,
		},
	}
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	testkit.Until(t, func() error {
		if err := d.ready(); err == nil || !strings.Contains(err.Error(), "audit/head") {
			return fmt.Errorf("ready: %v", err)
		}
		st, err := r.client.Status(t.Context())
		if err == nil && !strings.Contains(strings.Join(st.Degraded, " "), "no node is let in") {
			err = fmt.Errorf("degraded: %q", st.Degraded)
		}
		return err
	})
	conn, err := grpc.NewClient("unix:"+g.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	short, end := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer end()
	if _, err := healthv1.NewHealthClient(conn).Check(short, &healthv1.HealthCheckRequest{}); err == nil {
		t.Error("a node is let in")
	}
	repair(d)
	// waits for the door
	join(t, "unix:"+g.socket, "edge-1", "a.example", "b.example").gets("-a.example", "+b.example")
}

func TestABadPolicyAtStartIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	c := config.Default()
	c.DataDir, c.XDSListen, c.AdminListen, c.Policy = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0",
		"127.0.0.1:0", file
	for _, want := range []string{"no such file", "rule 1 (line 2)"} {
		d, err := New(c, slog.New(slog.DiscardHandler))
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "policy") {
			t.Errorf("%v, want %q in it", err, want)
		}
		if err := os.WriteFile(file, []byte("rules:\n- {identity: a}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhoeverConnectsGetsEverythingWithoutAPolicy(t *testing.T) {
	dir := t.TempDir()
	identitytest.Certify(t, dir, "a.example")
	r := start(t, func(c *config.Config) { c.Certs = dir })
	join(t, r.xdsListener.Addr().String(), "edge-1", "a.example",
		"tickets/default").gets("+a.example", "+tickets/default")
}

// A node whose id its identity may not use is turned away with words, recorded, and waited for by
// nobody. A policy that changes counts for those that are connected.
func TestANodeConnectsUnderItsOwnIDOnly(t *testing.T) {
	const rules = `rules: [{identity: "ME", scopes: [default], names: [a.example], nodes: ["edge-1", "old-*"]}]`
	g := startGuarded(t, rules)
	good := join(t, "unix:"+g.socket, "edge-1", "a.example", "tickets/default")
	good.gets("+a.example", "+tickets/default")

	refused := func(id string) error {
		conn, err := grpc.NewClient("unix:"+g.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discoveryv3.DiscoveryRequest{
			Node: &corev3.Node{Id: id}, TypeUrl: sds.TypeURL, ResourceNames: []string{"a.example"},
		}); err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		return err
	}
	err := refused("edge-2")
	me := fmt.Sprintf("unix:uid=%d", os.Getuid())
	for _, want := range []string{me, "edge-2", "under nodes"} {
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	if err := g.metric(t, `lockstep_policy_denied_total{kind="node"} 1`); err != nil {
		t.Error(err)
	}
	testkit.Until(t, func() error {
		log, err := g.client.Audit(t.Context(), 100)
		if err == nil && !slices.ContainsFunc(log.Lines, func(l api.AuditLine) bool {
			return l.What == "forbidden" && l.Actor == me && l.Name == "node/edge-2"
		}) {
			err = fmt.Errorf("the audit log has no line: %+v", log.Lines)
		}
		return err
	})
	happened := func(q api.EventsQuery, kind string, words ...string) {
		t.Helper()
		testkit.Until(t, func() error {
			all, err := g.client.Events(t.Context(), q)
			for _, e := range all.Events {
				lacks := func(w string) bool { return !strings.Contains(e.Text, w) }
				if e.Kind == kind && !slices.ContainsFunc(words, lacks) {
					return nil
				}
			}
			return errors.Join(err, fmt.Errorf("no %s with %q: %+v", kind, words, all.Events))
		})
	}
	denials := func() (all []api.Problem) {
		t.Helper()
		st, err := g.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.Problems {
			if p.Code == "node-denied" {
				all = append(all, p)
			}
		}
		return all
	}
	happened(api.EventsQuery{Node: "edge-2"}, "node-denied", me, "edge-2", "turned away")
	if p := denials(); len(p) != 1 || p[0].Severity != api.Warning || p[0].Since.IsZero() ||
		!strings.Contains(p[0].Text, "edge-2 is turned away") ||
		!strings.Contains(p[0].Text, "rule 1 of the policy (nodes: edge-1, old-*)") || p[0].Next == "" {
		t.Errorf("status says of a node that is turned away: %+v", p)
	}
	// What is denied to a connected node is told, too. Any client can make it ask for a host.
	asking := join(t, "unix:"+g.socket, "old-1", "b.example", "tickets/partners")
	asking.gets("-b.example")
	happened(api.EventsQuery{Host: "b.example"}, "node-denied", "b.example", "old-1", me)
	happened(api.EventsQuery{Node: "old-1"}, "node-denied", "tickets/partners", me)
	testkit.Until(t, func() error {
		said := map[string]api.Severity{}
		for _, p := range denials() {
			said[p.Where] = p.Severity
		}
		if want := map[string]api.Severity{
			"edge-2": api.Warning, "old-1 tickets/partners": api.Warning, "hosts": api.Notice,
		}; !maps.Equal(said, want) {
			return fmt.Errorf("status says %v, want %v", said, want)
		}
		return nil
	})
	asking.leave()
	testkit.Until(t, func() error {
		if p := denials(); len(p) != 1 {
			return fmt.Errorf("after the node has left: %+v", p)
		}
		return nil
	})
	for query, want := range map[api.ExplainQuery]string{
		{Name: "a.example", Node: "edge-2"}:               "was turned away at",
		{Name: "a.example", Node: "edge-2", Identity: me}: "may not call itself",
		{Name: "a.example", Node: "edge-1", Identity: me}: "",
		{Name: "a.example", Node: "edge-1"}:               "",
		{Name: "a.example", Identity: me}:                 "",
	} {
		e, err := g.client.Explain(t.Context(), query)
		if err != nil || (e.Denied != "") != (want != "") || !strings.Contains(e.Denied, want) {
			t.Errorf("%+v: %q %v, want %q", query, e.Denied, err, want)
		}
	}

	join(t, "unix:"+g.socket, "old-7", "a.example", "tickets/default").gets("+a.example", "+tickets/default")
	members := func(want ...string) {
		t.Helper()
		testkit.Until(t, func() error {
			st, err := g.rolls.Status("default")
			var ids []string
			for _, m := range st.Members {
				ids = append(ids, m.Name())
			}
			if err == nil && !slices.Equal(ids, want) {
				err = fmt.Errorf("on the roster are %q, want %q", ids, want)
			}
			return err
		})
	}
	members("edge-1", "old-7")
	g.write(t, `rules: [{identity: "ME", scopes: [default], names: [a.example], nodes: ["edge-1"]}]`)
	members("edge-1")
	testkit.Until(t, func() error {
		if n := g.xds.Stats().Streams; n != 1 {
			return fmt.Errorf("%d streams", n)
		}
		return nil
	})
	good.gets()
	g.write(t, wide)
	testkit.Until(t, func() error { return refused("edge-2") })
	if p := denials(); len(p) != 0 {
		t.Errorf("a policy allows it now, and status says %+v", p)
	}
}
