package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// split starts an Envoy whose listener and certificates come from one replica, and whose ring comes
// from another.
func (r *replicated) split(name, addr string, ads, ring *fleet.Lockstepd) *envoy {
	r.t.Helper()
	e := r.place(name)
	e.addr = addr
	config, err := r.fleet.Run(r.ctx, filepath.Join(bin, "lockstep"), "bootstrap", "envoy", "--mode", "hybrid",
		"--node", name, "--xds", ring.XDS, "--admin", e.admin, "--upstream", r.upstream.Addr)
	r.ok(err)
	_, behind, found := bytes.Cut(config, []byte("  - name: \"lockstep\""))
	cluster, _, more := bytes.Cut(behind, []byte("  - name: \"upstream\""))
	if !found || !more {
		r.t.Fatalf("the bootstrap has other clusters than this test knows: %s", config)
	}
	at := func(addr string) []byte {
		return fmt.Appendf(nil, "pipe: {path: %q}", strings.TrimPrefix(addr, "unix:"))
	}
	second := append([]byte("  - name: \"ads\""), bytes.Replace(bytes.ReplaceAll(cluster,
		[]byte(`cluster_name: "lockstep"`), []byte(`cluster_name: "ads"`)), at(ring.XDS), at(ads.XDS), 1)...)
	config = bytes.Replace(config, []byte(`cluster_name: "lockstep"`), []byte(`cluster_name: "ads"`), 1)
	r.run(e, bytes.Replace(config, []byte("  - name: \"upstream\""),
		append(second, "  - name: \"upstream\""...), 1))
	return e
}

// rows is the JSON of nodes, as far as this test reads it.
type rows struct {
	Nodes []struct {
		Node, State, Replica string
		Replicas             []string
		Secrets, Listeners   []struct{ Name, State string }
	}
	Silent []string
}

// holds is the JSON of explain, as far as this test reads it.
type holds struct {
	Found  string
	Nodes  []struct{ Node, Replica, State string }
	Silent []string
}

// TestANodeOfTwoReplicasIsOne: its listener and its certificates come from one replica, its ring
// from another. Each replica lists it once, with all that it has, and says who holds a certificate;
// a third to which nothing is connected, too. Rotations wait for it once.
func TestANodeOfTwoReplicasIsOne(t *testing.T) {
	t.Parallel()
	var addr string
	r := replicas(t, 3, func(s *stage) string {
		addr = s.listen("  hosts: [host-1.example]\n")
		redis, err := s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		return "redis://" + redis.Addr
	})
	one, two := r.planes[0], r.planes[1]
	e := r.split("edge-1", addr, one, two)
	r.awaitReady()
	r.eventually(func() error { return r.reaches(e, "host-2.example") })
	both := []string{r.id(one), r.id(two)}
	slices.Sort(both)
	whole := func() error {
		var list, node rows
		var eager, onDemand holds
		r.ok(r.show(&list, "nodes"))
		r.ok(r.show(&node, "nodes", "edge-1"))
		r.ok(r.show(&eager, "explain", "host-1.example"))
		r.ok(r.show(&onDemand, "explain", "host-2.example", "--node", "edge-1"))
		if len(list.Nodes) != 1 || len(list.Nodes[0].Secrets) != 1 || list.Nodes[0].Secrets[0].State != "accepted" {
			return fmt.Errorf("%s lists %+v", r.plane.Name(), list)
		}
		if len(node.Nodes) != 1 || len(node.Silent) != 0 {
			return fmt.Errorf("%s lists %+v", r.plane.Name(), node)
		}
		n := node.Nodes[0]
		var has []string
		for _, s := range append(slices.Clone(n.Secrets), n.Listeners...) {
			has = append(has, s.Name+" "+s.State)
		}
		if want := []string{"chain:host-1.example accepted", "host-2.example accepted", "tickets/default accepted",
			"tls accepted"}; !slices.Equal(has, want) || n.State != "live" ||
			n.Replica != r.id(two) || !slices.Equal(n.Replicas, both) {
			return fmt.Errorf("%s lists %+v, want %q, and the ring from %s", r.plane.Name(), n, want, r.id(two))
		}
		for _, h := range []holds{eager, onDemand} {
			if h.Found != "yes" || len(h.Silent) != 0 || len(h.Nodes) != 1 || h.Nodes[0].State != "accepted" ||
				h.Nodes[0].Replica != r.id(one) {
				return fmt.Errorf("%s explains %+v, want edge-1 at %s", r.plane.Name(), h, r.id(one))
			}
		}
		return nil
	}
	for range 2 {
		for _, p := range r.planes {
			r.ask(p)
			r.eventually(whole)
			// once the other replicas' rosters were read
			r.eventually(func() error {
				sc, err := r.scopeOf("default")
				if err == nil && (sc.Nodes.Live != 1 || sc.Nodes.Accepted != 1) {
					err = fmt.Errorf("%s counts %+v", p.Name(), sc.Nodes)
				}
				return err
			})
		}
		r.mustRun("rotate", "--wait", "--timeout", "30s")
		for _, p := range r.planes { // at once: who has the ring says how the node is, not what was read of it
			r.ask(p)
			r.ok(whole())
		}
	}

	// It is started anew: its ring stands as away in nobody's list, and it is there once.
	r.ok(e.Kill())
	r.ok(e.Restart())
	r.awaitReady()
	r.eventually(func() error { return r.reaches(e, "host-2.example") })
	for _, p := range r.planes {
		r.ask(p)
		r.eventually(whole)
	}

	// One replica does not answer: what is not known is not denied.
	r.ok(one.Kill())
	r.ask(r.planes[2])
	out := r.mustRun("explain", "host-1.example")
	if strings.Contains(out, "No node that is connected") ||
		!strings.Contains(out, "No node of the replicas that answered holds it") ||
		!strings.Contains(out, "did not answer: "+r.id(one)) {
		t.Errorf("explain while a replica is away: %s", out)
	}
	r.mustFail(4, "it may be connected to one that did not answer: "+r.id(one), "nodes", "edge-9")
	r.mustFail(4, "it may be connected to one that did not answer: "+r.id(one),
		"explain", "host-1.example", "--node", "edge-9")
}
