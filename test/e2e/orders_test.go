package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// ordersVariable is how many seeds TestABadRenewalInAnyOrder plays; ordersSeed, the first of them.
const (
	ordersVariable = "E2E_ORDERS"
	ordersSeed     = "E2E_ORDERS_SEED"
)

// TestABadRenewalInAnyOrder: Envoys refuse the renewal of one host. Whatever happens then, in an
// order that a seed chooses: no ticket of a burnt key resumes where the node counts as done, every
// live ticket resumes between nodes that count as accepted, and every other host serves.
func TestABadRenewalInAnyOrder(t *testing.T) {
	t.Parallel() // it mostly waits
	n, first := 8, uint64(time.Now().UnixNano()%1e9)
	if v := os.Getenv(ordersVariable); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatalf("%s: %v", ordersVariable, err)
		}
	}
	if v := os.Getenv(ordersSeed); v != "" {
		var err error
		if first, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("%s: %v", ordersSeed, err)
		}
	}
	t.Logf("to play these again: %s=%d %s=%d", ordersSeed, first, ordersVariable, n)
	var all sync.WaitGroup
	seats := make(chan struct{}, 8) // they mostly wait
	for i := range n {
		seats <- struct{}{}
		all.Go(func() {
			defer func() { <-seats }()
			seed := first + uint64(i)
			t.Run(fmt.Sprint(seed), func(t *testing.T) { playOrder(t, seed, int(seed%8)) })
		})
	}
	all.Wait()
}

// order is a fleet of two Envoys behind relays, and what is known of it.
type order struct {
	*replicated
	rand    *rand.Rand
	nodes   []*relayed
	bad     string // the host whose renewal Envoys refuse
	spoiled bool   // that renewal is what lockstepd has now
	tickets []issued
	burnt   map[string]bool // names of keys
	lives   int             // processes of Envoys started after the first ones
}

// relayed is an Envoy behind a relay.
type relayed struct {
	*envoy
	relay *fleet.Relay
	at    int // which replica
	epoch int // hot restarts so far
}

// issued is a session with where it came from.
type issued struct {
	*probe.Session
	host, from string
}

// playOrder plays what the seed says. nth goes through modes, orders of the chains and numbers of
// workers in turn.
func playOrder(t *testing.T, seed uint64, nth int) {
	hybrid, last, workers := nth%2 == 1, nth/2%2 == 1, strconv.Itoa(1+nth/4%2)
	o := &order{rand: rand.New(rand.NewPCG(seed, 0)), burnt: map[string]bool{}}
	addr := ""
	var url string
	o.replicated = replicas(t, 2, func(s *stage) string {
		s.moreTime(4 * time.Minute)
		if o.rand.IntN(2) == 0 {
			s.hosts = append(s.hosts, "host-3.example")
		}
		if hybrid {
			addr = s.listen("  hosts: [" + strings.Join(s.hosts, ", ") + "]\n")
		}
		return oneRedis(s, &url, nil)
	}, "--canary", "0s") // else one node would take the harm for all
	o.bad = o.hosts[0]
	if last {
		o.bad = o.hosts[len(o.hosts)-1]
	}
	t.Logf("seed %d: %d hosts, the bad one is %s, hybrid %v, %s workers", seed, len(o.hosts), o.bad, hybrid, workers)
	for i, name := range []string{"edge-1", "edge-2"} {
		n := &relayed{relay: o.relay(o.planes[i].XDS), at: i}
		n.envoy = o.place(name)
		flags := append(hotFlags(t, n.admin), "--concurrency", workers)
		if i == 0 && hybrid {
			n.addr = addr
			o.run(n.envoy, o.bootstrap(n.envoy, n.relay.Addr, "--mode", "hybrid"), flags...)
		} else {
			o.run(n.envoy, o.bootstrap(n.envoy, n.relay.Addr, o.eagerFlags(n.envoy, o.hosts)...), flags...)
		}
		o.nodes = append(o.nodes, n)
	}
	o.awaitReady()
	o.checkAll("the start")
	o.step("bad", o.badRenewal)
	steps := map[string]func(){
		"rotate": o.rotate, "burn": o.burn, "rollback": o.rollback, "cure": o.cure, "bad again": o.badRenewal,
		"kill lockstepd": o.killPlane, "restart an Envoy": o.restartNode, "move": o.move, "hot restart": o.hotRestart,
	}
	var names []string
	for name := range steps {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, i := range o.rand.Perm(len(names))[:6] {
		o.step(names[i], steps[names[i]])
	}
	o.step("cure", o.cure)
	o.step("rotate", o.rotate)
	for _, n := range o.nodes {
		o.eventually(func() error { return o.servesTrusted(n, o.bad) })
	}
}

func (o *order) step(name string, do func()) {
	o.t.Helper()
	began := time.Now()
	do()
	acted := time.Since(began)
	o.checkAll(name)
	o.t.Logf("%-16s %5d ms, %5d ms to look", name, acted.Milliseconds(), (time.Since(began) - acted).Milliseconds())
}

func (o *order) store(host string, p fleet.Pair) {
	o.mustRunInTime("cert", "put", host, "--cert", o.file("put.crt", p.Chain), "--key", o.file("put.key", p.Key))
}

func (o *order) badRenewal() {
	o.store(o.bad, o.issueOdd(o.bad))
	o.spoiled = true
	before := make([]int, len(o.nodes))
	for i, n := range o.nodes {
		before[i] = n.relay.Count().Refused
	}
	o.eventually(func() error {
		for i, n := range o.nodes {
			if n.relay.Count().Refused == before[i] && n.relay.Count().Replaced == 0 {
				return fmt.Errorf("%s has not refused it", n.name)
			}
		}
		return nil
	})
}

func (o *order) cure() {
	p := o.issue(o.bad)
	o.store(o.bad, p)
	o.spoiled = false
	for _, n := range o.nodes {
		o.eventually(func() error { return o.serving(n.envoy, o.bad, p) })
	}
}

func (o *order) rotate() {
	o.mustRunInTime("rotate", "--wait", "--timeout", "40s", "--why", "test")
}

func (o *order) rollback() {
	if o.scope().key("drain") == "" {
		o.rotate()
	}
	o.mustRunInTime("rollback", "--wait", "--timeout", "40s", "--why", "test")
}

// burn burns, and looks at each node as soon as it counts as accepted.
func (o *order) burn() {
	for _, id := range o.scope().ids() {
		o.burnt[id] = true
	}
	var started struct{ Rotation uint64 }
	o.ok(json.Unmarshal([]byte(o.mustRunInTime("-o", "json", "burn", "--yes", "--why", "test")), &started))
	o.eventuallyWithin(60*time.Second, func() error {
		for _, n := range o.nodes {
			if o.accepted(n, o.scope().Version) {
				o.tryBurnt(n, 500*time.Millisecond)
			}
		}
		return o.burnEnded(started.Rotation)
	})
	for _, n := range o.nodes {
		o.tryBurnt(n, 0)
	}
}

// burnEnded returns nil if the burn has ended.
func (o *order) burnEnded(rotation uint64) error {
	if what := o.happened(rotation); !slices.Contains(what, "burnt") {
		return fmt.Errorf("the burn has not ended: %v; blocked by %v", what, o.scope().BlockedBy)
	}
	return nil
}

func (o *order) killPlane() {
	planes := o.planes
	if o.rand.IntN(2) == 0 {
		planes = planes[:1]
	}
	for _, p := range planes {
		o.ok(p.Kill())
	}
	for _, p := range planes {
		o.ok(p.Restart())
	}
	for _, p := range planes {
		o.ok(p.Ready(o.ctx))
	}
}

func (o *order) restartNode() {
	n := o.nodes[o.rand.IntN(len(o.nodes))]
	o.ok(n.Kill())
	n.epoch = 0
	n.Process = o.successor(n)
	o.eventually(n.listens)
	o.allGood(n)
}

// hotRestart starts a process that takes the listeners over, under the same node id, while the one
// before drains.
func (o *order) hotRestart() {
	n := o.nodes[o.rand.IntN(len(o.nodes))]
	old := n.Process
	n.epoch++
	n.Process = o.successor(n)
	select {
	case <-old.Done():
	case <-time.After(20 * time.Second):
		o.t.Fatalf("%s: the process before the hot restart goes on", n.name)
	}
	o.allGood(n)
}

// successor starts a process of the node's epoch, and waits until it is ready.
func (o *order) successor(n *relayed) *fleet.Process {
	o.lives++
	p, err := o.fleet.EnvoyAgain(n.Process, fmt.Sprintf("%s-life-%d", n.name, o.lives), n.epoch)
	o.ok(err)
	o.ok(p.Ready(o.ctx))
	return p
}

// allGood waits until a process that has just started serves every good host: what it refuses at
// its start keeps some of them from it until it is cured.
func (o *order) allGood(n *relayed) {
	began := time.Now()
	for _, host := range o.hosts {
		if host != o.bad {
			o.eventually(func() error { return o.servesTrusted(n, host) })
		}
	}
	o.t.Logf("%s serves every good host %s after it is ready", n.name, time.Since(began).Round(time.Millisecond))
}

func (o *order) move() {
	n := o.nodes[o.rand.IntN(len(o.nodes))]
	n.at = 1 - n.at
	o.ok(n.relay.Forward(o.planes[n.at].XDS))
	n.relay.Cut()
}

// accepted reports whether the node counts as holding that version of the ring. The process before
// a hot restart is a node of its own under the same id, and away until its lease ends.
func (o *order) accepted(n *relayed, version string) (all bool) {
	o.t.Helper()
	for _, row := range o.replicated.nodes() {
		if id, _, _ := strings.Cut(row.Node, "#"); id != n.name || row.State == "away" {
			continue
		}
		for _, secret := range row.Secrets {
			if strings.HasPrefix(secret.Name, "tickets/") {
				if secret.State != "accepted" && secret.State != "proved" || secret.Version != version {
					return false
				}
				all = true
			}
		}
	}
	return all
}

var bothVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// tryBurnt offers tickets of burnt keys to a node that counts as done. Its workers may be that much
// later than its answer.
func (o *order) tryBurnt(n *relayed, grace time.Duration) {
	o.t.Helper()
	for _, is := range o.tickets {
		if !o.burnt[is.KeyID] {
			continue
		}
		for end := time.Now().Add(grace); ; time.Sleep(20 * time.Millisecond) {
			resumed, err := o.again(n.envoy, is.host, is.Version, is.Session)
			if err == nil && !resumed || err != nil && is.host == o.bad {
				break
			}
			if time.Now().Before(end) {
				continue
			}
			if err != nil {
				o.t.Fatalf("%s on %s: %v", is.host, n.name, err)
			}
			o.t.Fatalf("%s counts as done, and a ticket of burnt key %s, made by %s, resumed there for %s (TLS %x)",
				n.name, is.KeyID, is.from, is.host, is.Version)
		}
	}
}

// servesTrusted makes full handshakes of both versions and checks the certificate.
func (o *order) servesTrusted(n *relayed, host string) error {
	for _, v := range bothVersions {
		if _, err := probe.Dial(o.ctx, n.addr,
			probe.Config{SNI: host, RootCAs: o.ca.Pool(), Versions: []uint16{v}}, nil); err != nil {
			return err
		}
	}
	return nil
}

// checkAll demands the whole invariant at once, as far as nodes count as accepted, and when the
// fleet has come to rest.
func (o *order) checkAll(after string) {
	o.t.Helper()
	for _, n := range o.nodes {
		for _, host := range o.hosts {
			if host == o.bad {
				continue
			}
			if err := o.servesTrusted(n, host); err != nil {
				o.t.Fatalf("after %s: %s: %v", after, n.name, err)
			}
		}
	}
	o.account(after+", at once", o.scope())
	var ring scope
	o.eventuallyWithin(40*time.Second, func() (err error) {
		if ring, err = o.stage.scopeOf("default"); err != nil {
			return err
		}
		if ring.Phase != "steady" || ring.Nodes.Accepted != len(o.nodes) || ring.Nodes.Refused != 0 {
			return fmt.Errorf("after %s: %s, %+v, blocked by %v", after, ring.Phase, ring.Nodes, ring.BlockedBy)
		}
		for _, n := range o.nodes {
			// one replica's word on the nodes of the other may be a second old
			if !o.accepted(n, ring.Version) {
				return fmt.Errorf("after %s: %s does not count as accepted: %+v", after, n.name, o.replicated.nodes())
			}
		}
		return nil
	})
	o.account(after, ring)
}

// account demands the invariant of the nodes that count as holding the ring.
func (o *order) account(after string, ring scope) {
	o.t.Helper()
	for _, n := range o.nodes {
		if !o.accepted(n, ring.Version) {
			continue
		}
		for _, host := range o.hosts {
			for _, v := range bothVersions {
				r, err := probe.Dial(o.ctx, n.addr, probe.Config{SNI: host, Insecure: true, Versions: []uint16{v}}, nil)
				if err != nil {
					if host == o.bad && o.spoiled {
						continue
					}
					o.t.Fatalf("after %s: %s: %v", after, n.name, err)
				}
				if id := ring.key("encrypt"); r.Session == nil || r.Session.KeyID != id {
					if now := o.scope().Version; now != ring.Version {
						return // a key retired meanwhile
					}
					o.t.Fatalf("after %s: %s counts as accepted, and encrypts for %s with %+v, want key %s",
						after, n.name, host, r.Session, id)
				}
				o.tickets = append(o.tickets, issued{r.Session, host, n.name})
			}
		}
	}
	o.tickets = slices.DeleteFunc(o.tickets, func(is issued) bool {
		age := time.Since(is.Issued)
		return age > 2*lifetime || !o.burnt[is.KeyID] && (age > lifetime*3/4 || !slices.Contains(ring.ids(), is.KeyID))
	})
	for _, n := range o.nodes {
		if !o.accepted(n, ring.Version) {
			continue
		}
		o.tryBurnt(n, 0)
		for _, is := range o.tickets {
			if o.burnt[is.KeyID] || is.host == o.bad {
				// which certificate a node shows of that depends on when it started
				continue
			}
			resumed, err := o.again(n.envoy, is.host, is.Version, is.Session)
			if err != nil || !resumed && time.Since(is.Issued) < lifetime*3/4 {
				o.t.Fatalf("after %s: a live ticket of key %s, made by %s %s ago, "+
					"does not resume on %s for %s (TLS %x): %v",
					after, is.KeyID, is.from,
					time.Since(is.Issued).Round(time.Millisecond), n.name, is.host, is.Version, err)
			}
		}
	}
}
