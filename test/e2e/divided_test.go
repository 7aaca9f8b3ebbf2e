package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// divided is two replicas, their store and NATS, each in a box of its own, and the nodes with their
// clients in that of the test. All that passes between nodes and replicas, and between these, is
// mTLS with certificates of lockstep pki.
type divided struct {
	*replicated
	net                       *fleet.Network
	here, one, two, store, ev *fleet.Box
	pki                       string
}

// divide sets the stage in a test that is secluded. open starts the store in that fleet.
func divide(t *testing.T, open func(s *stage, f *fleet.Fleet) (url string)) *divided {
	t.Helper()
	d := &divided{replicated: &replicated{stage: newStage(t, setup{later: true,
		scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, node_lease: 20s}\n", lifetime)})}}
	s := d.stage
	own, boxes, network, err := s.fleet.Network("replica-1", "replica-2", "store", "events")
	s.ok(err)
	d.net, d.here, d.one, d.two, d.store, d.ev = network, own, boxes[0], boxes[1], boxes[2], boxes[3]

	d.pki = s.path("pki")
	s.mustRun("pki", "init", "--dir", d.pki)
	s.mustRun("pki", "issue", "server", "--dir", d.pki, "--ip", d.one.IP, "--ip", d.two.IP)
	for _, n := range []string{"operator", "edge-1", "edge-2"} {
		s.mustRun("pki", "issue", "node", "--dir", d.pki, "--node", n)
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
		s.writePair(h, s.issue(h))
	}
	for _, name := range []string{"edge-1", "edge-2"} {
		s.envoy(name, append(d.more(), "--pki", d.pki)...)
	}
	s.awaitReady()
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

// silent are the replicas that did not answer the one that is asked, which must list its own nodes
// soon all the same.
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

// waitsFor demands that a rotation that is under way has not ended after that time, and no client
// noticed anything.
func (d *divided) waitsFor(a *account, why string, length time.Duration) {
	d.t.Helper()
	d.serves(a, why, length)
	sc := d.scope()
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
	d.eventuallyWithin(25*time.Second, func() error {
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
	client := http.Client{
		Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: p.TLS},
	}
	// as replicas ask each other: the CLI's list is of the whole fleet
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, "https://"+p.Admin+"/v1/nodes?here=", nil)
	d.ok(err)
	d.ok(p.Authorize(req))
	resp, err := client.Do(req)
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
	_, err := fmt.Sscanf(d.scope().Version, "g%d-", &n)
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
