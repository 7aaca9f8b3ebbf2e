package double_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/double"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestANodeIsANodeToLockstepd starts lockstepd and two nodes, and rotates the keys once. Both nodes
// count as accepted, serve the host's certificates, and encrypt with one key. A node that is
// started again gets everything again.
func TestANodeIsANodeToLockstepd(t *testing.T) {
	t.Parallel() // it mostly waits
	ctx := within(t, time.Minute)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f := fleet.ForTest(t)
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	ok(err)
	ca, err := fleet.NewCA("double")
	ok(err)
	certs := filepath.Join(f.Dir(), "certs")
	hosts := []string{"shop.example", "bank.example"}
	for _, h := range hosts {
		pair, err := ca.Issue(fleet.Leaf{Names: []string{h}})
		ok(err)
		ok(fleet.WriteHost(certs, h, pair))
	}
	plane, err := f.Lockstepd("lockstepd", fleet.Lockstepd{Bin: bin, Certs: certs})
	ok(err)
	ok(plane.Ready(ctx))

	var nodes []*double.Node
	for i := range 2 {
		n := double.NewNode(double.NodeConfig{
			Config: double.Config{Chains: []double.Chain{
				{Certificate: hosts[0], Ring: keysource.RingName("default")},
				{Certificate: hosts[1], Ring: keysource.RingName("default")},
			}},
			ID: fmt.Sprintf("double-%d", i), XDS: plane.XDS,
		})
		ok(n.Start())
		t.Cleanup(func() { ok(n.Stop()) })
		nodes = append(nodes, n)
	}
	serving := func() error {
		for _, n := range nodes {
			for i := range hosts {
				if c := n.Serves(i); !n.Open() || c == nil || len(c.Keys) == 0 {
					return fmt.Errorf("open %t, chain %d serves %t; %+v", n.Open(), i, c != nil, n.Counts())
				}
			}
		}
		return nil
	}
	soon := func(check func() error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		ok(fleet.Until(ctx, check))
	}
	key := func(n *double.Node, chain int) string { return keysource.TicketKeyID(n.Serves(chain).Keys[0][:16]) }
	soon(serving)
	before := key(nodes[0], 0)

	_, err = f.Run(ctx, filepath.Join(bin, "lockstep"),
		"--data-dir", plane.Data, "rotate", "--wait", "--timeout", "30s")
	ok(err)
	soon(func() error {
		for i := range hosts {
			if a, b := key(nodes[0], i), key(nodes[1], i); a != b || a == before {
				return fmt.Errorf("chain %d encrypts with %s and %s, before with %s", i, a, b, before)
			}
		}
		return nil
	})
	out, err := f.Run(ctx, filepath.Join(bin, "lockstep"), "--data-dir", plane.Data, "nodes", "-o", "json")
	ok(err)
	var shown struct {
		Nodes []struct{ Node, State string }
	}
	ok(json.Unmarshal(out, &shown))
	if rows := shown.Nodes; len(rows) != 2 || rows[0].State != "live" || rows[1].State != "live" {
		t.Errorf("lockstep nodes: %s; want two live ones", out)
	}

	// A restart of lockstepd: the nodes come back by themselves.
	held := nodes[1].Counts()
	ok(plane.Restart())
	ok(plane.Ready(ctx))
	soon(func() error {
		if c := nodes[1].Counts(); c.Streams < held.Streams+2 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})

	ok(nodes[0].Restart())
	soon(serving)
	if c := nodes[0].Counts(); c.NACKs != 0 || c.Streams < 4 || c.Bytes == 0 {
		t.Errorf("%+v", c)
	}
	if err := nodes[0].Start(); err == nil {
		t.Error("a node was started twice")
	}
}

// TestANodeAnswersByTheModel shows that a node says what its model does: words, ACKs of same bytes,
// claims, and a first request like Envoy's.
func TestANodeAnswersByTheModel(t *testing.T) {
	t.Parallel()
	ctx := within(t, 20*time.Second)
	s, ca := newScript(t), newIssuer(t)
	n := double.NewNode(double.NodeConfig{
		Config:      double.Config{Chains: []double.Chain{{Certificate: "a", Ring: "ring"}}, Refuses: refuses},
		ID:          "double",
		XDS:         s.addr,
		RingHeaders: metadata.Pairs("x-test", "ring"),
		Pause:       time.Millisecond,
	})
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Stop() })
	open := func(on double.Stream, name string) *wire {
		t.Helper()
		w, err := s.open(ctx, on, []string{name})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	send := func(w *wire, name, version string, secret []byte, want string) {
		t.Helper()
		words, err := w.ask(ctx, &response{TypeUrl: secretType, Resources: []*resource{{
			Name: name, Version: version, Resource: &anypb.Any{TypeUrl: secretType, Value: secret},
		}}})
		if err != nil || words != want {
			t.Fatalf("%s %s was answered with %q (%v), want %q", name, version, words, err, want)
		}
	}
	ads, sds := open(double.ADS, "a"), open(double.SDS, "ring")
	if got, _ := metadata.FromIncomingContext(sds.stream.Context()); len(got.Get("x-test")) != 1 {
		t.Errorf("the headers of the ring's stream are %v", got)
	}
	if node := ads.node; node.GetId() != "double" || node.GetUserAgentName() != "envoy" ||
		node.GetUserAgentBuildVersion().GetVersion().GetMinorNumber() != 40 {
		t.Errorf("the node says of itself: %v", node)
	}
	one, two, bad := newKey(), newKey(), ca.certificate("a", ca.issue("*.example", needsStaple), "")
	send(sds, "ring", "r1", ring(t, "ring", one), "")
	send(ads, "a", "c1", ca.certificate("a", ca.issue("*.example", good), ""), "")
	send(ads, "a", "c2", bad, mustStaple)
	send(sds, "ring", "r2", ring(t, "ring", two), mustStaple)
	send(ads, "a", "c2", bad, "")
	if c := n.Serves(0); c == nil || string(c.Keys[0]) != string(one) {
		t.Errorf("the chain serves %v, want the first ring", c)
	}
	ads.end()
	sds.end()
	if ads, sds = open(double.ADS, "a"),
		open(double.SDS, "ring"); ads.claims["a"] != "c2" || sds.claims["ring"] != "r1" {
		t.Errorf("claims %v and %v, want c2 and r1", ads.claims, sds.claims)
	}
	if c := n.Counts(); c.Responses != 5 || c.NACKs != 2 || c.Words != mustStaple || c.Streams != 4 {
		t.Errorf("%+v", c)
	}
}
