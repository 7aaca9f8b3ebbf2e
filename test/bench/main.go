// Bench measures lockstepd against stock go-control-plane (LinearCache, delta, SDS service, default
// server options) and lockstep-edge against nginx, Caddy, Envoy and a bare net/http server on this
// machine, and prints a table of what was measured and what must be reached. A whole run is also
// written to test/bench/RESULTS.md. Figures that fall short stay in the table.
//
// Servers, the simulated nodes and the bench itself are processes of their own; all but lockstepd,
// lockstep-edge and those peers are this binary, run again in another role (roles.go). Single
// rounds scatter, so servers take turns, and medians count.
//
// A subject is a file: push, memory, ask, demand, storm, replicas, inventory, edge, edgefleet,
// seed. Each has a function for a line of the list below, which adds rows to the table. A step that
// fails ends its line (check), and the other lines still tell something. What subjects share is in
// bench.go (the run, its workers and data), planes.go (control planes and rounds of pushes),
// peers.go (proxies), proc.go and report.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/orders"
	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/bench/visit"
)

// lines are the parts of the bench that can be run alone.
var lines = []struct {
	name, about string
	run         func(*bench)
}{
	{"push", "one push of the ring, server CPU, a whole rotation", pushes},
	{"names", "one push of the ring to nodes that hold 100 certificates each", pushesWithNames},
	{"memory", "server memory per node", memory},
	{"ask", "one stream that asks for names one by one", askOneByOne},
	{"unknown", "unknown names refused on one stream", askUnknown},
	{"renew", "names held by one node on demand: asking, renewing, memory", renewHeld},
	{"cold", "the first handshake of a host on a real Envoy, and a full one of a host that is there", coldHosts},
	{"storm", "nodes that connect at once over mTLS", storm},
	{"replicas", "two replicas on a Redis against one, and a large policy", replicas},
	{"refuge", "nodes whose replica is killed", refuge},
	{"import", "lockstep cert import of a million certificates, into the embedded store and into Redis", importMany},
	{"start", "lockstepd's start with many certificates in the store", start},
	{"held", "memory per certificate that a node holds", heldMemory},
	{"edge-load", "lockstep-edge: a certificate that was loaded on demand against one of the start, CPU per full handshake", edgeLoad},
	{"edge-handshakes", "CPU per full and per resumed handshake: lockstep-edge, a bare net/http server, Caddy, nginx, Envoy", edgeHandshakes},
	{"edge-requests", "proxied requests on kept-alive connections: lockstep-edge, Caddy, nginx, Envoy", edgeRequests},
	{"edge-resume", "resumption across two lockstep-edges through three rotations", edgeResume},
	{"edge-failover", "two proxies behind a virtual address: lockstep-edges, Envoys", failover},
	{"edge-hosts", "lockstep-edge's memory, by how many hosts it has seen", edgeHosts},
	{"edge-idle", "lockstep-edge's memory per idle connection", edgeIdle},
	{"seed", "one shared ring against a private key each, on three Envoys", seed},
}

func names() (all []string) {
	for _, l := range lines {
		all = append(all, l.name)
	}
	return all
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	name := append(os.Args, "")[1]
	if serve := roles[name]; serve != nil {
		err = serve(ctx, os.Args[2])
	} else if name == "swarm" {
		err = orders.Serve(os.Stdin, os.Stdout, swarm.New())
	} else if name == "visit" {
		err = orders.Serve(os.Stdin, os.Stdout, visit.New())
	} else {
		err = orchestrate(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func orchestrate(ctx context.Context) error {
	only := flag.String("only", "", "run these `lines` (comma-separated) and write no file: "+strings.Join(names(), ", "))
	quick := flag.Bool("quick", false, "small sizes, for work on the bench itself; writes no file")
	into := flag.String("profile", "", "take lockstep-edge's CPU profile into this `file`, and do nothing else")
	flag.Parse()
	chosen := names()
	if *only != "" {
		chosen = strings.Split(*only, ",")
	}
	for _, name := range chosen {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("there is no line %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	b := &bench{ctx: ctx, quick: *quick, report: &report{began: time.Now(), facts: facts()}}
	defer b.close()
	if err := attempt(b.setUp); err != nil {
		return err
	}
	if *into != "" {
		return attempt(func() { profile(b, *into) })
	}
	for _, l := range lines {
		if !slices.Contains(chosen, l.name) {
			continue
		}
		b.say("%s: %s", l.name, l.about)
		err := attempt(func() { l.run(b) })
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			for _, p := range b.fleet.Processes() {
				b.say("the end of %s's log:\n%s", p.Name(), p.LogTail(5))
			}
			// a row is one line
			b.add(row{what: l.name}.noted("failed: %s", strings.Join(strings.Fields(err.Error()), " ")))
		}
		if err := b.end(); err != nil {
			return err
		}
	}
	text := b.text()
	fmt.Print(text)
	if *quick || *only != "" {
		return b.failed()
	}
	return errors.Join(b.write(b.root, text), b.failed())
}
