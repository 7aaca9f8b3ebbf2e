package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// divided is two replicas, their store and NATS, each in a box of its own, and the nodes with their clients in that of the test. All that passes
// between nodes and replicas, and between these, is mTLS with certificates of lockstep pki.
type divided struct {
	*replicated
	net                       *fleet.Network
	here, one, two, store, ev *fleet.Box
	pki                       string
}

// divide sets the stage in a test that is secluded. open starts the store in that fleet.
func divide(t *testing.T, open func(s *stage, f *fleet.Fleet) (url string)) *divided {
	t.Helper()
	d := &divided{replicated: &replicated{stage: set(t, play{later: true,
		scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, node_lease: 20s}\n", lifetime)})}}
	s := d.stage
	own, boxes, network, err := s.fleet.Network("replica-1", "replica-2", "store", "events")
	s.ok(err)
	d.net, d.here, d.one, d.two, d.store, d.ev = network, own, boxes[0], boxes[1], boxes[2], boxes[3]

	d.pki = s.path("pki")
	s.done("pki", "init", "--dir", d.pki)
	s.done("pki", "issue", "server", "--dir", d.pki, "--ip", d.one.IP, "--ip", d.two.IP)
	for _, n := range []string{"operator", "edge-1", "edge-2"} {
		s.done("pki", "issue", "node", "--dir", d.pki, "--node", n)
	}
	server, operator, ca := d.pki+"/server", d.pki+"/nodes/operator", d.pki+"/ca.crt"
	pair, err := tls.LoadX509KeyPair(operator+"/tls.crt", operator+"/tls.key")
	s.ok(err)
	pem, err := os.ReadFile(ca)
	s.ok(err)
	client := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool()}
	client.RootCAs.AppendCertsFromPEM(pem)
	s.tls = []string{"--tls-ca", ca, "--tls-cert", operator + "/tls.crt", "--tls-key", operator + "/tls.key"}

	d.events, err = s.fleet.In(d.ev).NATS(s.ctx, "events", 1)
	s.ok(err)
	url := open(s, s.fleet.In(d.store))
	for _, b := range []*fleet.Box{d.one, d.two} {
		d.joinIn(s.fleet.In(b), fleet.Lockstepd{TLS: client}, b.Name, url,
			"--xds-cert", server+"/tls.crt", "--xds-key", server+"/tls.key", "--xds-client-ca", ca)
	}
	s.plane = d.planes[0]
	for _, h := range s.hosts {
		s.put(h, s.pair(h))
	}
	for _, name := range []string{"edge-1", "edge-2"} {
		s.envoy(name, append(d.more(), "--pki", d.pki)...)
	}
	s.ready()
	return d
}

func redisBox(s *stage, f *fleet.Fleet) string {
	s.t.Helper()
	redis, err := f.Redis(s.ctx, "store", "protected-mode no") // its box is not open to the world
	s.ok(err)
	return "redis://" + redis.Addr
}

func natsBox(s *stage, f *fleet.Fleet) string {
	s.t.Helper()
	n, err := f.NATS(s.ctx, "store", 3)
	s.ok(err)
	return "nats://" + n.Addrs()
}

// silent are the replicas that did not answer the one that is asked, which must list its own nodes soon all the same.
func (d *divided) silent() []string {
	d.t.Helper()
	var out struct{ Silent []string }
	began := time.Now()
	d.ok(d.show(&out, "nodes"))
	if took := time.Since(began); len(out.Silent) > 0 {
		d.t.Logf("%s lists nodes in %s, without: %v", d.plane.Name(), took.Round(10*time.Millisecond), out.Silent)
	}
	return out.Silent
}

// waitsFor demands that a rotation that is under way has not ended after that time, and no client noticed anything.
func (d *divided) waitsFor(a *account, why string, length time.Duration) {
	d.t.Helper()
	d.serves(a, why, length)
	sc := d.now()
	if sc.Phase == "steady" {
		d.t.Errorf("%s: the rotation ended without nodes that it should wait for: %+v", why, sc.Nodes)
	}
	d.t.Logf("%s: %s, blocked by %v", why, sc.Phase, sc.BlockedBy)
}

// moved waits until that replica sends every Envoy its ring, and logs how long that takes.
func (d *divided) moved(to *fleet.Lockstepd, why string) {
	d.t.Helper()
	began := time.Now()
	d.ask(to)
	d.within(25*time.Second, func() error {
		if rings := d.rings(to); len(rings) < len(d.envoys) {
			return fmt.Errorf("%s has the rings of %v", to.Name(), rings)
		}
		return nil
	})
	d.t.Logf("%s: all nodes have moved to %s after %s", why, to.Name(), time.Since(began).Round(10*time.Millisecond))
}

// rings are the nodes that get their ring from that replica.
func (d *divided) rings(p *fleet.Lockstepd) (names []string) {
	d.t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: p.TLS}}
	resp, err := client.Get("https://" + p.Admin + "/v1/nodes?here=") // as replicas ask each other: the CLI's list is of the whole fleet
	d.ok(err)
	defer resp.Body.Close()
	var here struct{ Nodes []node }
	d.ok(json.NewDecoder(resp.Body).Decode(&here))
	for _, n := range here.Nodes {
		for _, s := range n.Secrets {
			if s.Name == keysource.RingName("default") {
				names = append(names, n.Node)
			}
		}
	}
	return names
}

func (d *divided) generation() (n int) {
	d.t.Helper()
	_, err := fmt.Sscanf(d.now().Version, "g%d-", &n)
	d.ok(err)
	return n
}

// leftNobody demands that no rotation went on without a live node.
func (d *divided) leftNobody() {
	d.t.Helper()
	for _, l := range d.history() {
		if len(l.LeftBehind) > 0 {
			d.t.Errorf("left behind: %+v", l)
		}
	}
}

// TestReplicasApart: the replicas cannot reach each other; then one cannot reach the store, with nodes on both; then not NATS. Nothing tells them:
// what they send is dropped.
func TestReplicasApart(t *testing.T) {
	t.Parallel()
	if !fleet.Secluded(t) {
		return
	}
	d := divide(t, natsBox)
	one, two := d.planes[0], d.planes[1]
	for _, p := range d.planes { // each stays at its replica
		d.ask(p)
		d.scripted("at-"+p.Name(), accept)
	}
	d.phase("steady", 4)
	a := d.clients()
	d.instep(a, "the start", 4, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.two))
	for _, p := range d.planes {
		d.ask(p)
		if silent := d.silent(); len(silent) != 1 {
			t.Errorf("%s names as silent: %v", p.Name(), silent)
		}
	}
	d.instep(a, "a cut between the replicas, while it stands", 4, 5*time.Second)
	d.ok(d.net.Join(d.one, d.two))
	d.within(5*time.Second, func() error {
		if silent := d.silent(); len(silent) > 0 {
			return fmt.Errorf("silent: %v", silent)
		}
		return nil
	})
	d.instep(a, "a cut between the replicas", 4, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.store))
	d.ask(one)
	began := time.Now()
	d.refuses("a cut between a replica and the store")
	t.Logf("%s refuses a rotation after %s", one.Name(), time.Since(began).Round(10*time.Millisecond))
	d.ask(two)
	d.done("rotate", "--why", "the other replica cannot reach the store")
	d.waitsFor(a, "a cut between a replica and the store", 6*time.Second)
	d.ok(d.net.Join(d.one, d.store))
	d.instep(a, "a cut between a replica and the store", 4, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.ev))
	d.instep(a, "a cut between a replica and NATS, while it stands", 4, 5*time.Second)
	d.ask(one)
	began = time.Now()
	d.within(20*time.Second, func() error { return d.says("events are down") })
	t.Logf("%s notices that it is cut off from NATS after %s", one.Name(), time.Since(began).Round(10*time.Millisecond))
	d.instep(a, "NATS was missed, by the replica that missed it", 4, 5*time.Second)
	d.ok(d.net.Join(d.one, d.ev))
	began = time.Now()
	d.within(15*time.Second, func() error {
		if d.says("events are down") == nil {
			return errors.New("events are still down")
		}
		return nil
	})
	t.Logf("%s has NATS again %s after the repair", one.Name(), time.Since(began).Round(10*time.Millisecond))
	d.instep(a, "a cut between a replica and NATS", 4, 5*time.Second)
	d.leftNobody()
}

// says returns nil if status says those words of the replica itself.
func (d *divided) says(words string) error {
	d.t.Helper()
	var st status
	d.ok(d.show(&st, "status"))
	if all := strings.Join(st.Degraded, "; "); !strings.Contains(all, words) {
		return fmt.Errorf("degraded: %q", all)
	}
	return nil
}

// TestNodesApart: nodes cannot reach one of the replicas, in one direction or both, then none of them; then a replica's cable is pulled. They move, or
// wait, and take part in each rotation.
func TestNodesApart(t *testing.T) {
	t.Parallel()
	if !fleet.Secluded(t) {
		return
	}
	d := divide(t, redisBox)
	one, two := d.planes[0], d.planes[1]
	d.phase("steady", 2)
	a := d.clients()
	d.instep(a, "the start", 2, 5*time.Second)

	d.ok(d.net.Cut(d.here, d.two))
	d.moved(one, "the second replica is cut off from the nodes")
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "the second replica was cut off from the nodes", 2, 5*time.Second)

	// What nodes say no longer reaches the first replica, what it says reaches them: a rotation waits, and the nodes move under it.
	d.ok(d.net.Drop(d.here, d.one))
	d.ask(two)
	d.done("rotate", "--why", "nodes are not heard by a replica")
	d.moved(two, "nodes are not heard by the first replica, and a rotation waits")
	d.phase("steady", 2)
	a.inUse()
	a.cross("nodes moved while a rotation waited for them")
	d.ok(d.net.Pass(d.here, d.one))
	d.instep(a, "the first replica hears nodes again", 2, 5*time.Second)

	// All move to the other replica, which has nothing to send to them.
	d.ask(one)
	before, generation := d.secrets("sent"), d.generation()
	d.ok(d.net.Cut(d.here, d.two))
	d.moved(one, "the second replica is cut off from the nodes")
	if sent, news := d.secrets("sent")-before, d.generation()-generation; sent > float64(news*len(d.envoys)) { // a key may have retired
		t.Errorf("%v secrets were sent to nodes that held them already", sent)
	}
	d.instep(a, "a cut between nodes and a replica, while it stands", 2, 5*time.Second)
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "a cut between nodes and a replica", 2, 5*time.Second)

	// The cable of the replica at which all nodes are is pulled, and put back.
	d.ok(d.net.Unplug(d.one))
	d.ask(two)
	d.done("rotate", "--why", "a replica's cable was pulled")
	d.moved(two, "the first replica's cable was pulled, and a rotation waits")
	d.phase("steady", 2)
	a.inUse()
	a.cross("a replica's cable was pulled")
	d.ok(d.net.Plug(d.one))
	d.ask(one)
	d.instep(a, "a replica's cable was put back", 2, 5*time.Second)

	// Nodes that reach nobody serve on.
	d.ok(d.net.Cut(d.here, d.one))
	d.ok(d.net.Cut(d.here, d.two))
	d.done("rotate", "--why", "nodes are cut off from all replicas")
	d.waitsFor(a, "nodes are cut off from all replicas", 10*time.Second)
	d.ok(d.net.Join(d.here, d.one))
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "nodes were cut off from all replicas", 2, 5*time.Second)
	d.leftNobody()
}

// TestNodesLeaveAReplicaThatIsCutOffFromItsStore: all nodes are at a replica that can reach neither the store nor the other replica, which will take it for
// dead. It lets them go before that, and the rotation that waited for them goes on with them. Where the store is lost to all, nobody is sent around.
func TestNodesLeaveAReplicaThatIsCutOffFromItsStore(t *testing.T) {
	t.Parallel()
	if !fleet.Secluded(t) {
		return
	}
	d := divide(t, redisBox)
	one, two := d.planes[0], d.planes[1]
	d.phase("steady", 2)
	a := d.clients()
	d.ok(d.net.Cut(d.here, d.two))
	d.moved(one, "the second replica is cut off from the nodes")
	d.ok(d.net.Join(d.here, d.two))
	d.instep(a, "the second replica was cut off from the nodes", 2, 5*time.Second)

	d.ok(d.net.Cut(d.one, d.store))
	d.ok(d.net.Cut(d.one, d.two))
	d.ask(two)
	d.done("rotate", "--why", "a replica is cut off from the store for long")
	began := time.Now()
	d.waitsFor(a, "a cut between a replica and the store", 6*time.Second)
	d.within(30*time.Second, func() error {
		if sc := d.now(); sc.Phase != "steady" {
			return fmt.Errorf("%s: blocked by %v", sc.Phase, sc.BlockedBy)
		}
		return nil
	})
	if sc := d.now(); sc.Nodes.Live != 2 || sc.Nodes.Accepted != 2 {
		t.Errorf("the rotation ended without its nodes: %+v", sc.Nodes)
	}
	a.inUse()
	a.cross("a long cut between a replica and the store")
	t.Logf("the rotation ended with all nodes %s after the cut", time.Since(began).Round(10*time.Millisecond))
	d.ok(d.net.Join(d.one, d.store))
	d.ok(d.net.Join(d.one, d.two))
	d.instep(a, "a long cut between a replica and the store", 2, 5*time.Second)

	ended := func() (n float64) {
		for _, p := range d.planes {
			d.ask(p)
			n += d.secrets("closed")
		}
		return n
	}
	before := ended()
	if before == 0 {
		t.Error("the streams that were let go are not counted")
	}
	d.ok(d.net.Cut(d.one, d.store))
	d.ok(d.net.Cut(d.two, d.store))
	d.serves(a, "all replicas are cut off from the store", 24*time.Second)
	if n := ended() - before; n > 0 {
		t.Errorf("%v streams were ended although the store is lost to all", n)
	}
	d.ok(d.net.Join(d.one, d.store))
	d.ok(d.net.Join(d.two, d.store))
	d.instep(a, "all replicas were cut off from the store", 2, 5*time.Second)
	d.leftNobody()
}
