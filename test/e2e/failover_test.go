package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// pair is two proxies of one kind in boxes of their own, and keepalived in each, as
// deploy/keepalived has it: the virtual address is with one of them. The control plane, the
// upstream and the clients are where the test is.
type pair struct {
	*stage
	net        *fleet.Segment
	members    [2]*member
	vip, pki   string
	upstreamAt string
	clients    []*customer
}

type member struct {
	box   *fleet.Box
	proxy *fleet.Process
	vrrp  *fleet.Keepalived
}

const (
	failoverLifetime = "5m" // no ticket ends in the test
	failoverPort     = "18443"
	edgeAdmin        = "127.0.0.1:18090"
	envoyAdmin       = "127.0.0.1:9901"
)

// fault is how the member that has the address fails, and how it is repaired.
type fault struct {
	name         string
	strike, mend func(p *pair, m *member) error
}

var (
	proxyDies = fault{name: "the proxy is killed",
		strike: func(_ *pair, m *member) error { return m.proxy.Kill() },
		mend:   func(_ *pair, m *member) error { return m.proxy.Restart() }}
	proxyHangs = fault{name: "the proxy hangs",
		strike: func(_ *pair, m *member) error { return m.proxy.Pause() },
		mend:   func(_ *pair, m *member) error { return m.proxy.Resume() }}
	keepalivedDies = fault{name: "keepalived is killed, and leaves the address where it is",
		strike: func(_ *pair, m *member) error { return m.vrrp.Kill() },
		mend:   func(_ *pair, m *member) error { return m.vrrp.Restart() }}
	unplugged = fault{name: "the box is unplugged",
		strike: func(p *pair, m *member) error { return p.net.Unplug(m.box) },
		mend:   func(p *pair, m *member) error { return p.net.Plug(m.box) }}
)

// TestFailoverOfEdges: clients of two lockstep-edge behind one address resume their sessions on the
// standby, whatever becomes of the active one, at any instant.
func TestFailoverOfEdges(t *testing.T) {
	failover(t, (*pair).edge, edgeAdmin+"/readyz")
}

// TestFailoverOfEnvoys: so do those of two Envoys.
func TestFailoverOfEnvoys(t *testing.T) {
	failover(t, (*pair).envoyIn, envoyAdmin+"/ready")
}

func failover(t *testing.T, start func(*pair, *fleet.Box) *fleet.Process, ready string) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("in a user namespace keepalived cannot run its script (setgroups is not allowed there): " +
			"run the tests as root")
	}
	if !fleet.Secluded(t) {
		return
	}
	p := putUp(t, start, ready)
	p.settled()
	p.come(2)
	for i, f := range []fault{proxyDies, unplugged, proxyDies, keepalivedDies, proxyDies, proxyHangs, proxyDies} {
		p.round(f)
		if i < 2 { // each of the two has come back by then
			p.keeps()
			p.mustRun("rotate", "--why", "between two failures", "--wait", "--timeout", "10s")
		}
	}
	for _, c := range p.clients {
		c.account(t)
	}
}

// putUp starts all of it.
func putUp(t *testing.T, start func(*pair, *fleet.Box) *fleet.Process, ready string) *pair {
	t.Helper()
	p := &pair{stage: newStage(t,
		setup{later: true, hosts: 1, scopes: "  default: {ticket_lifetime: " + failoverLifetime + "}\n"})}
	own, boxes, segment, err := p.fleet.Segment("edge-1", "edge-2")
	p.ok(err)
	p.net, p.vip, p.pki = segment, segment.Spare(), p.path("pki")
	p.mustRun("pki", "init", "--dir", p.pki)
	p.mustRun("pki", "issue", "server", "--dir", p.pki, "--ip", own.IP)
	p.overTCP("--xds-cert", p.pki+"/server/tls.crt", "--xds-key", p.pki+"/server/tls.key",
		"--xds-client-ca", p.pki+"/ca.crt")
	_, port, err := net.SplitHostPort(p.plane.XDS)
	p.ok(err)
	p.plane.XDS = net.JoinHostPort(own.IP, port)
	p.start()
	p.whoAsks(own.IP)
	for i, b := range boxes {
		p.mustRun("pki", "issue", "node", "--dir", p.pki, "--node", b.Name)
		k, err := p.fleet.In(b).Keepalived(fleet.Keepalived{VIP: p.vip, Boxes: [2]*fleet.Box(boxes), Ready: ready})
		p.ok(err)
		p.members[i] = &member{b, start(p, b), k}
	}
	return p
}

// edge starts lockstep-edge in a box.
func (p *pair) edge(b *fleet.Box) *fleet.Process {
	p.t.Helper()
	node := p.pki + "/nodes/" + b.Name
	config := p.file(b.Name+".yaml", []byte(strings.Join([]string{
		"node: " + b.Name,
		"xds: " + p.plane.XDS,
		"xds_cert: " + node + "/tls.crt",
		"xds_key: " + node + "/tls.key",
		"xds_ca: " + p.pki + "/ca.crt",
		"admin_listen: " + edgeAdmin,
		"access_log: off",
		"ticket_lifetime: " + failoverLifetime,
		"listeners: [{address: 0.0.0.0:" + failoverPort + "}]",
		"routes: [{upstreams: [\"http://" + p.upstreamAt + "\"]}]",
	}, "\n")))
	proxy, err := p.fleet.In(b).Start(fleet.Command{
		Name: b.Name, Path: filepath.Join(bin, "lockstep-edge"), Args: []string{"--config", config},
	})
	p.ok(err)
	return proxy
}

// envoyIn starts Envoy in a box.
func (p *pair) envoyIn(b *fleet.Box) *fleet.Process {
	p.t.Helper()
	config, err := p.fleet.Run(p.ctx, filepath.Join(bin, "lockstep"), "bootstrap", "envoy", "--mode", "eager",
		"--node", b.Name, "--xds", p.plane.XDS, "--pki", p.pki,
		"--admin", envoyAdmin, "--listen", "0.0.0.0:"+failoverPort, "--upstream", p.upstreamAt,
		"--host", p.hosts[0], "--ticket-lifetime", failoverLifetime)
	p.ok(err)
	proxy, err := p.fleet.In(b).Envoy(b.Name, config, envoyAdmin)
	p.ok(err)
	return proxy
}

// whoAsks starts an upstream that answers with the address of the proxy that asks it.
func (p *pair) whoAsks(ip string) {
	p.t.Helper()
	l, err := net.Listen("tcp", ip+":18080")
	p.ok(err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		io.WriteString(w, host)
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(l) // ends with Close
	}()
	p.t.Cleanup(func() { s.Close(); <-ended })
	p.upstreamAt = l.Addr().String()
}

// settled waits until one member has the address and serves all clients, the other is ready to take
// it, and both hold the ring. It returns them in that order.
func (p *pair) settled() (active, standby *member) {
	p.t.Helper()
	p.awaitPhase("steady", 2)
	since := time.Now()
	p.eventuallyWithin(20*time.Second, func() error {
		var states [2]string
		for i, m := range p.members {
			var err error
			if states[i], err = m.vrrp.State(); err != nil {
				return err
			}
		}
		switch states {
		case [2]string{"MASTER", "BACKUP"}:
			active, standby = p.members[0], p.members[1]
		case [2]string{"BACKUP", "MASTER"}:
			active, standby = p.members[1], p.members[0]
		default:
			return fmt.Errorf("keepalived: %q", states)
		}
		return p.served(active, since)
	})
	return active, standby
}

// served returns nil if that member served the latest connection of each client, which began after
// since.
func (p *pair) served(m *member, since time.Time) error {
	for _, c := range p.clients {
		if err := c.served(m.box.IP, since); err != nil {
			return err
		}
	}
	return nil
}

// round has the active member fail at some instant, demands that every client goes on with the
// standby and its session, and mends what has failed.
func (p *pair) round(f fault) {
	p.t.Helper()
	active, standby := p.settled()
	for _, c := range p.clients {
		c.forget()
	}
	// at any instant of keepalived's second, and of the clients' handshakes
	time.Sleep(rand.N(time.Second))
	began := time.Now()
	p.ok(f.strike(p, active))
	p.eventuallyWithin(15*time.Second, func() error { return p.served(standby, began) })
	took := time.Since(began)
	var longest time.Duration
	var sum tally
	for _, c := range p.clients {
		gap, latest := c.check(p.t, f.name, active.box.IP, standby.box.IP)
		longest = max(longest, gap)
		sum.resumed, sum.crossed = sum.resumed+latest.resumed, sum.crossed+latest.crossed
		sum.full, sum.failed = sum.full+latest.full, sum.failed+latest.failed
	}
	p.t.Logf("%s, %s: all clients are with %s after %s; time without service %s; sessions: %+v",
		active.box.Name, f.name, standby.box.Name,
		took.Round(time.Millisecond), longest.Round(time.Millisecond), sum)
	if longest > 5*time.Second {
		p.t.Errorf("%s: %s without service", f.name, longest)
	}
	p.ok(f.mend(p, active))
}

// keeps demands that who has the address keeps it when the other one has come back, if that one's
// priority is higher.
func (p *pair) keeps() {
	p.t.Helper()
	active, standby := p.settled()
	if standby.box.Name != "edge-1" {
		return
	}
	time.Sleep(time.Second) // ten adverts
	if now, _ := p.settled(); now != active {
		p.t.Errorf("%s took the address back when it returned", now.box.Name)
	}
}
