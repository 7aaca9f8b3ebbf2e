package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// demand sets a stage whose lockstepd takes flags of its own.
func demand(t *testing.T, flags ...string) *stage {
	s := newStage(t, setup{hosts: 1, later: true})
	s.plane.Args = append(s.plane.Args, flags...)
	s.start()
	return s
}

// manyHosts writes hosts that share one certificate, each under its own name, and returns their
// names.
func (s *stage) manyHosts(n int) (names []string) {
	s.t.Helper()
	p := s.issue("*.many.example")
	for i := range n {
		names = append(names, fmt.Sprintf("h%05d.many.example", i))
		s.ok(fleet.WriteHost(s.certs, names[i], p))
	}
	return names
}

// fullHandshake makes a full handshake and checks the certificate against the CA, but not its
// dates.
func (s *stage) fullHandshake(ctx context.Context, e *envoy, host string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", host, err)
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	return leaf.Raw, leaf.VerifyHostname(strings.ToLower(host))
}

func (s *stage) leaf(p fleet.Pair) []byte { block, _ := pem.Decode(p.Chain); return block.Bytes }

// TestEvictionFailsNoHandshake: clients come for twelve times as many names as the node may hold,
// so that nearly every handshake is for a name that was evicted; and for three, each of them
// hundreds of times a second, so that some are for one that is evicted at this moment.
func TestEvictionFailsNoHandshake(t *testing.T) {
	t.Run("many", func(t *testing.T) { evict(t, 240, 20) })
	t.Run("few", func(t *testing.T) { evict(t, 3, 1) })
}

func evict(t *testing.T, hosts, held int) {
	s := demand(t, "--node-names", fmt.Sprint(held))
	names := s.manyHosts(hosts)
	e := s.onDemand("edge-1", false)
	s.awaitReady()
	s.eventually(func() error { _, err := s.fullHandshake(s.ctx, e, names[hosts-1]); return err })
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	var done, failed atomic.Int64
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			for ctx.Err() == nil {
				name := names[rand.IntN(hosts)]
				_, err := s.fullHandshake(s.ctx, e, name)
				if done.Add(1); err != nil && failed.Add(1) < 10 {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	evicted := s.metric("lockstep_xds_evicted_total")
	t.Logf("%d handshakes, %d failed, %.0f names evicted", done.Load(), failed.Load(), evicted)
	if evicted < 60 || evicted > 6*50 {
		t.Errorf("%.0f names were evicted in 5 s", evicted)
	}
	s.eventuallyWithin(30*time.Second, func() error {
		// the eager host and its ring are subscriptions, too
		if n := s.metric("lockstep_certificates_watched"); n > float64(held+1) {
			return fmt.Errorf("%.0f names are watched", n)
		}
		return nil
	})
	if _, err := s.fullHandshake(s.ctx, e, s.hosts[0]); err != nil {
		t.Errorf("the eager host: %v", err)
	}
}

// TestACertificateEndsInEnvoyWithItsTTL: one that lives some seconds is dropped and asked for
// again, no handshake fails through its end, and the renewal of an expired one is served as soon as
// it is there.
func TestACertificateEndsInEnvoyWithItsTTL(t *testing.T) {
	t.Parallel() // it mostly waits
	s := demand(t)
	const name = "short.example"
	short, err := s.ca.Issue(fleet.Leaf{Names: []string{name}, Valid: 7 * time.Second})
	s.ok(err)
	end := time.Now().Add(7 * time.Second)
	s.ok(fleet.WriteHost(s.certs, name, short))
	e := s.onDemand("edge-1", false)
	s.awaitReady()
	s.eventually(func() error { _, err := s.fullHandshake(s.ctx, e, name); return err })
	if time.Now().After(end) {
		t.Skip("the machine is too slow: it expired before it was served")
	}
	sent := s.secrets("sent")
	n := 0
	for time.Now().Before(end.Add(2 * time.Second)) {
		got, err := s.fullHandshake(s.ctx, e, name)
		if n++; err != nil {
			t.Fatalf("%s before its end: %v", time.Until(end), err)
		}
		if !bytes.Equal(got, s.leaf(short)) {
			t.Fatal("another certificate")
		}
		time.Sleep(5 * time.Millisecond)
	}
	again := s.secrets("sent") - sent
	t.Logf("%d handshakes; it was sent %.0f times more", n, again)
	if again < 1 {
		t.Error("Envoy did not ask for it again when its TTL was over")
	}
	renewed := s.issue(name)
	s.ok(fleet.WriteHost(s.certs, name, renewed))
	s.eventually(func() error {
		got, err := s.fullHandshake(s.ctx, e, name)
		if err == nil && !bytes.Equal(got, s.leaf(renewed)) {
			return errNotYet
		}
		return err
	})
}

// TestARenewalReachesTheNodesThatHoldTheNameAndNoOther, without a handshake that would ask for it.
func TestARenewalReachesTheNodesThatHoldTheNameAndNoOther(t *testing.T) {
	s := demand(t)
	names := s.manyHosts(2)
	one, two := s.onDemand("edge-1", false), s.onDemand("edge-2", false)
	s.awaitReady()
	s.eventually(func() error { _, err := s.fullHandshake(s.ctx, one, names[0]); return err })
	s.eventually(func() error { _, err := s.fullHandshake(s.ctx, two, names[1]); return err })
	sent := s.secrets("sent")
	renewed := s.issue("*.many.example")
	s.ok(fleet.WriteHost(s.certs, names[0], renewed))
	s.eventually(func() error {
		if s.secrets("sent") == sent {
			return errNotYet
		}
		return nil
	})
	s.eventually(func() error { // it was sent with no handshake; Envoy takes a moment to use it
		got, err := s.fullHandshake(s.ctx, one, names[0])
		if err == nil && !bytes.Equal(got, s.leaf(renewed)) {
			return errors.New("the old one is served after the push")
		}
		return err
	})
	time.Sleep(200 * time.Millisecond) // for what must not happen
	if n := s.secrets("sent") - sent; n != 1 {
		t.Errorf("%.0f certificates were sent, of one that one node holds", n)
	}
	if held, _ := s.holds(two); strings.Contains(fmt.Sprint(held), names[0]) {
		t.Errorf("edge-2 holds %v", held)
	}
}

// TestNamesOfAnyShapeAreAnsweredAtOnce: what clients may send as SNI, through Envoy: served if it
// is a spelling of a name that there is, else refused.
func TestNamesOfAnyShapeAreAnsweredAtOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	s := demand(t)
	p := s.issue("shop.example", "xn--bcher-kva.example", "_.example", "*.wild.example")
	for _, n := range []string{"shop.example", "xn--bcher-kva.example", "*.wild.example"} {
		s.ok(fleet.WriteHost(s.certs, n, p))
	}
	e := s.onDemand("edge-1", false)
	s.awaitReady()
	label := strings.Repeat("a", 63)
	taken := []string{
		"shop.example", "SHOP.Example", "xn--bcher-kva.example", "bücher.example", "a.wild.example", "*.wild.example",
	}
	closed := []string{
		"shop.example.", "sHop.example", // the third and fourth spelling
		"a", ".", "..", "a..example", ".shop.example", "shop.example..", " shop.example",
		"shop.example ", "shop.example\x00", "\x00",
		"unknown.example", "a.b.wild.example", "192.0.2.1", "::1", "*", "*.", "*.*.example", "-", "tickets/default",
		"../../etc/passwd", "%s%n", "shop.example:443",
		label + ".example", label + "a.example", strings.Join([]string{label, label, label, label[:61]}, "."),
		strings.Repeat("a", 254), strings.Repeat("a", 255), strings.Repeat(".", 255), strings.Repeat("\x00", 255),
		strings.Repeat("a.", 127) + "a", strings.Repeat("ü", 127), strings.Repeat("𝐀", 63),
		// find no chain: no message could say that they are absent
		"\xff\xfe", "shop\xc3.example", strings.Repeat("\xff", 255),
	}
	var k traffic.Knocker
	knock := func(name string) (traffic.Answer, time.Duration) {
		ctx, cancel := context.WithTimeout(s.ctx, 3*time.Second)
		defer cancel()
		began := time.Now()
		a, err := k.Knock(ctx, e.addr, "", name)
		if err != nil {
			t.Errorf("%.40q: %v", name, err)
		}
		return a, time.Since(began)
	}
	s.eventually(func() error {
		if _, err := s.fullHandshake(s.ctx, e, "shop.example"); err != nil {
			return err
		}
		return nil
	})
	for round := range 2 {
		for want, names := range map[traffic.Answer][]string{traffic.Taken: taken, traffic.Closed: closed} {
			for _, name := range names {
				if want == traffic.Closed && round == 0 && (name == "shop.example." || name == "sHop.example") {
					continue // the other spelling comes first
				}
				a, took := knock(name)
				if a != want {
					t.Errorf("%.40q: %v, want %v", name, a, want)
				}
				if took > 2*time.Second {
					t.Errorf("%.40q: after %s", name, took)
				}
			}
		}
	}
}

// TestNamesThatAreNotUTF8FindNoChain where all names come on demand: they are closed at once and
// cost Envoy nothing. Any other name is as before, and so is none.
func TestNamesThatAreNotUTF8FindNoChain(t *testing.T) {
	t.Parallel() // it mostly waits
	s := demand(t)
	p := s.issue("shop.example", "xn--bcher-kva.example", "no-sni.invalid")
	for _, n := range []string{"shop.example", "xn--bcher-kva.example", "no-sni.invalid"} {
		s.ok(fleet.WriteHost(s.certs, n, p))
	}
	e := s.place("edge-1")
	config := s.mustRun("bootstrap", "envoy", "--mode", "on-demand", "--node", "edge-1", "--xds", s.plane.XDS,
		"--admin", e.admin, "--listen", e.addr, "--upstream", s.upstream.Addr)
	s.run(e, []byte(config))
	s.awaitReady()
	s.eventually(func() error { _, err := s.fullHandshake(s.ctx, e, "shop.example"); return err })
	var k traffic.Knocker
	for name, want := range map[string]traffic.Answer{
		"bücher.example": traffic.Taken, "𝐀.example": traffic.Closed,
		"unknown.example": traffic.Closed, "\x00\n": traffic.Closed,
		"\xff": traffic.Closed, "shop\xc3.example": traffic.Closed, "\xc0\xaf": traffic.Closed,
		"\xed\xa0\x80": traffic.Closed, "\xf4\x90\x80\x80": traffic.Closed,
		strings.Repeat("\xbf", 255): traffic.Closed,
	} {
		ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
		if a, err := k.Knock(ctx, e.addr, "", name); a != want {
			t.Errorf("%.40q: %v, want %v, %v", name, a, want, err)
		}
		cancel()
	}
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.DialContext(s.ctx, "tcp", e.addr) // an address is no SNI
	s.ok(err)
	s.ok(conn.Close())
	if n := s.metric(`lockstep_xds_names_refused_total{door="bytes"}`); n != 0 {
		t.Errorf("Envoy asked for %.0f names that are not UTF-8", n)
	}
}
