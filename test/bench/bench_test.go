package main

import (
	"net"
	"net/http"
	"net/rpc"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestARowIsJudgedByTheRatioOfMedians(t *testing.T) {
	for _, c := range []struct {
		ours, stock []float64
		limit       limit
		want        string
	}{
		{
			[]float64{1, 9, 2}, []float64{4, 4, 4}, atMost(0.5),
			"| x | 2000 ms | 4000 ms | 0.5 (0.25–2.25) | ≤ 0.50 × | reached |",
		},
		{[]float64{3}, []float64{4}, atMost(0.5), "| x | 3000 ms | 4000 ms | 0.75 | ≤ 0.50 × | **short** |"},
		{[]float64{3}, []float64{4}, atLeast(0.8), "| x | 3000 ms | 4000 ms | 0.75 | ≥ 0.8 × | **short** |"},
		{[]float64{1, 3}, []float64{4, 4}, reported, "| x | 2000 ms | 4000 ms | 0.5 (0.25–0.75) |  |  |"},
	} {
		if got := compare(figures{c.ours, c.stock}, c.limit, inMS, "x").String(); got != c.want {
			t.Errorf("%v against %v:\n got %s\nwant %s", c.ours, c.stock, got, c.want)
		}
	}
}

// The swarm speaks to a server that is not ours: what it counts is what the protocol says.
func TestTheSwarmCountsWhatItsNodesAcknowledge(t *testing.T) {
	c := stockConfig{Certs: 5, Pair: fleet.Pair{Chain: []byte("chain"), Key: []byte("key")}}
	for _, addr := range []*string{&c.XDS, &c.Admin} {
		var err error
		if *addr, err = fleet.Addr(); err != nil {
			t.Fatal(err)
		}
	}
	go serveStock(t.Context(), c) // ends with the process
	for _, addr := range []string{c.XDS, c.Admin} {
		if err := fleet.Until(t.Context(), func() error { _, err := net.Dial("tcp", addr); return err }); err != nil {
			t.Fatal(err)
		}
	}
	client, worker := net.Pipe()
	orders := rpc.NewServer()
	if err := orders.RegisterName("Orders", swarm.New()); err != nil {
		t.Fatal(err)
	}
	go orders.ServeConn(worker)
	crowd := rpc.NewClient(client)
	defer crowd.Close()
	try := func(cmd swarm.Command) (r swarm.Reply, err error) {
		cmd.Set, cmd.Ring = "stock", ring
		if cmd.Timeout == 0 {
			cmd.Timeout = 10 * time.Second
		}
		err = crowd.Call("Orders.Do", cmd, &r)
		return r, err
	}
	do := func(cmd swarm.Command) swarm.Reply {
		t.Helper()
		r, err := try(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	do(swarm.Command{
		Op: "connect", Addr: c.XDS, Nodes: 3, Names: []string{ring, certName(0), certName(4)}, Parallel: 2,
	})
	do(swarm.Command{Op: "arm", Accepts: 2})
	for range 2 {
		resp, err := http.Post("http://"+c.Admin+"/v1/scopes/default/burn", "", nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
		time.Sleep(50 * time.Millisecond) // else stock sends both changes as one
	}
	if r := do(swarm.Command{Op: "wait"}); r.Median == 0 || r.Last < r.Median {
		t.Errorf("two pushes were accepted at %+v", r)
	}
	do(swarm.Command{Op: "arm", Accepts: 1})
	_, err := try(swarm.Command{Op: "wait", Timeout: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "3 nodes") {
		t.Errorf("without a push: %v, want 3 nodes that did not accept", err)
	}
	if r := do(swarm.Command{Op: "ask", Addr: c.XDS, Pattern: certPattern, Count: 5}); r.Resources != 5 ||
		r.Removed != 0 {
		t.Errorf("asking for 5 names: %+v", r)
	}
}
