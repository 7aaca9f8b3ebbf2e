package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// deadline is transport_socket_connect_timeout of what we ship: when Envoy gives up a client whose
// certificate does not come.
const deadline = 10 * time.Second

// TestTheStoreHangs: hosts that the node holds go on, and so do those of the directory, cold ones
// too; what only the store can tell waits, and is neither refused at once nor served, until Envoy
// gives its client up; and all is well again when the store is.
func TestTheStoreHangs(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{hosts: 1, later: true})
	redis, err := s.fleet.Redis(s.ctx, "store")
	s.ok(err)
	s.plane.Args = append(s.plane.Args, "--store", "redis://"+redis.Addr)
	s.start()
	const waiting = 2000 // many more than there are loaders
	cold := s.manyHosts(400)
	p := s.issue("*.stored.example")
	// and still cold when the store hangs
	there := []string{"cold-1.stored.example", "cold-2.stored.example", "cold-3.stored.example"}
	for _, n := range append(there, "known.stored.example") {
		s.writePair(n, p)
	}
	e := s.onDemand("edge-1", false)
	s.awaitReady()
	known := []string{"known.stored.example", cold[0]}
	for _, n := range known {
		s.eventually(func() error { _, err := s.fullHandshake(s.ctx, e, n); return err })
	}
	s.warm(s.ctx, e, known, time.Second)

	s.ok(redis.Pause())
	var k traffic.Knocker
	var group sync.WaitGroup
	var mu sync.Mutex
	var ends []time.Duration
	for i := range waiting {
		group.Go(func() {
			name := fmt.Sprintf("u%d.unknown.example", i)
			if i < len(there)-1 {
				name = there[i]
			}
			ctx, cancel := context.WithTimeout(s.ctx, deadline+15*time.Second)
			defer cancel()
			began := time.Now()
			a, err := k.Knock(ctx, e.addr, "", name)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			if ends = append(ends, took); a != traffic.Closed || took < deadline-100*time.Millisecond {
				t.Errorf("%s, of which nobody can tell: %v after %s, %v", name, a, took, err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	first := s.warm(s.ctx, e, cold[1:], 1500*time.Millisecond)
	ctx, stop := context.WithCancel(s.ctx)
	var during []time.Duration
	var knows sync.WaitGroup
	knows.Go(func() { during = s.warm(ctx, e, known, time.Hour) })
	group.Wait()
	stop()
	knows.Wait()
	t.Logf("%d names of which nobody can tell ended after %s to %s; known hosts p99 %s "+
		"(%d), cold hosts of the directory p99 %s (%d)",
		len(ends), slices.Min(ends), slices.Max(ends), quantile(during, 0.99),
		len(during), quantile(first, 0.99), len(first))
	if q := max(quantile(during, 0.99), quantile(first, 0.99)); q > time.Second {
		t.Errorf("others were held up: %s", q)
	}
	s.ok(redis.Resume())
	for _, n := range there {
		s.eventuallyWithin(30*time.Second, func() error { _, err := s.fullHandshake(s.ctx, e, n); return err })
	}
	s.eventuallyWithin(30*time.Second, func() error {
		ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := k.Knock(ctx, e.addr, "", "other.unknown.example"); err != nil || time.Since(began) > time.Second {
			return fmt.Errorf("an unknown name: %s, %w", time.Since(began), err)
		}
		return nil
	})
}

// TestOneBrokenCertificateAndTenThousandRenewals: of ten thousand hosts that a node holds one is
// broken, which `status` and `explain` name and nobody else notices; then all are renewed at once,
// which delays no rotation by more than a second.
func TestOneBrokenCertificateAndTenThousandRenewals(t *testing.T) {
	t.Parallel() // it mostly waits
	const hosts = 10_000
	// so that the ring has room for many rotations
	s := newStage(t, setup{hosts: 1, later: true, scopes: "  default: {ticket_lifetime: 2s}\n"})
	s.ctx = context.WithoutCancel(s.ctx)
	for _, version := range []string{"v1", "v2"} { // all at once: each host's folder is one link
		s.ok(fleet.WriteHost(s.fleet.Dir(), version, s.issue("*.many.example")))
	}
	s.ok(os.Symlink("v1", s.path("data")))
	var names []string
	for i := range hosts {
		names = append(names, fmt.Sprintf("h%05d.many.example", i))
		s.ok(os.Symlink(filepath.Join("..", "data"), filepath.Join(s.certs, names[i])))
	}
	const held, coldBroken = "held.many.example", "broken.example"
	s.ok(fleet.WriteHost(s.certs, held, s.issue(held)))
	start := time.Now()
	s.start()
	e := s.onDemand("edge-1", false)
	s.awaitReady()
	var k traffic.Knocker
	hold := func(names []string) {
		var group sync.WaitGroup
		work := make(chan string)
		for range 4 {
			group.Go(func() {
				for n := range work {
					ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
					if a, err := k.Knock(ctx, e.addr, "", n); a != traffic.Taken {
						t.Errorf("%s: %v, %v", n, a, err)
					}
					cancel()
				}
			})
		}
		for _, n := range names {
			work <- n
		}
		close(work)
		group.Wait()
	}
	// the directory was read
	s.eventuallyWithin(time.Minute, func() error { _, err := s.fullHandshake(s.ctx, e, names[hosts-1]); return err })
	t.Logf("the directory was read %s after the start", time.Since(start).Round(time.Millisecond))
	began := time.Now()
	hold(append(names, held))
	t.Logf("%d hosts were asked for in %s", hosts, time.Since(began).Round(time.Millisecond))

	s.ok(os.WriteFile(filepath.Join(fleet.HostDir(s.certs, held), "tls.crt"), []byte("broken"), 0o600))
	s.ok(fleet.WriteHost(s.certs, coldBroken, fleet.Pair{Chain: []byte("broken"), Key: []byte("broken")}))
	s.eventuallyWithin(time.Minute, func() error {
		var st status
		s.ok(s.show(&st, "status"))
		if all := strings.Join(st.Certificates.Problems, "\n"); !strings.Contains(all, held) ||
			!strings.Contains(all, coldBroken) {
			return fmt.Errorf("problems: %q", st.Certificates.Problems)
		}
		return nil
	})
	s.mustFail(3, "certificate", "status")
	s.mustFail(3, "could not be looked up", "explain", coldBroken)
	broken := make(chan traffic.Answer)
	go func() {
		ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
		defer cancel()
		a, _ := k.Knock(ctx, e.addr, "", coldBroken)
		broken <- a
	}()
	// the broken one among them: its last good certificate stays
	busy := s.warm(s.ctx, e, append(names[:20:20], held), 2*time.Second)
	t.Logf("all others, and the last good one: %d handshakes, p99 %s", len(busy), quantile(busy, 0.99))

	rotate := func() time.Duration {
		began := time.Now()
		s.mustRun("rotate", "--wait", "--timeout", "30s", "--why", "test")
		return time.Since(began)
	}
	// renewed reads the other version, and rotates until all of it is sent. It returns the slowest
	// of so many rotations.
	renewed := func(version string) (slowest time.Duration, n int) {
		sent, began := s.secrets("sent"), time.Now()
		s.ok(os.Symlink(version, s.path("data.new")))
		s.ok(os.Rename(s.path("data.new"), s.path("data")))
		for s.secrets("sent") < sent+hosts {
			if time.Since(began) > time.Minute {
				t.Fatalf("%.0f renewals reached the node in a minute, of %d", s.secrets("sent")-sent, hosts)
			}
			if s.secrets("sent") == sent {
				time.Sleep(20 * time.Millisecond) // the directory is being read
				continue
			}
			took := rotate()
			slowest = max(slowest, took)
			n++
			time.Sleep(300*time.Millisecond - took) // a ring has room for the keys of three seconds
		}
		return slowest, n
	}
	var words []string
	for held := false; !held; {
		idle := min(rotate(), rotate())
		slowest, n := renewed([]string{"v2", "v1"}[len(words)%2])
		words = append(words, fmt.Sprintf("%s idle, %s at most of %d", idle, slowest, n))
		if held = n > 0 && slowest <= idle+time.Second; !held && len(words) == attempts {
			t.Fatalf("rotations while %d certificates were renewed, %d times: %s",
				hosts, attempts, strings.Join(words, "; "))
		}
	}
	t.Logf("rotations while %d certificates were renewed took %s", hosts, strings.Join(words, "; then "))
	if a := <-broken; a != traffic.Closed {
		t.Errorf("%s: %v", coldBroken, a)
	}
}
