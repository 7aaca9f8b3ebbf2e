package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// TestTheStoreHangs: hosts that the node holds go on, and so do those of the directory, cold ones too; what only the store can tell waits, and is neither
// refused at once nor served, until Envoy gives its client up; and all is well again when the store is.
func TestTheStoreHangs(t *testing.T) {
	t.Parallel() // it mostly waits
	s := set(t, play{hosts: 1, later: true})
	redis, err := s.fleet.Redis(s.ctx, "store")
	s.ok(err)
	s.plane.Args = append(s.plane.Args, "--store", "redis://"+redis.Addr)
	s.start()
	cold := s.many(200)
	p := s.pair("*.stored.example")
	for _, n := range []string{"known", "cold-1", "cold-2"} {
		s.put(n+".stored.example", p)
	}
	e := s.onDemand("edge-1", false)
	s.ready()
	known := []string{"known.stored.example", cold[0]}
	for _, n := range known {
		s.soon(func() error { _, err := s.full(s.ctx, e, n); return err })
	}
	s.warm(s.ctx, e, known, time.Second)

	s.ok(redis.Pause())
	var k traffic.Knocker
	var group sync.WaitGroup
	for i := range 120 { // more than there are loaders
		group.Go(func() {
			name := fmt.Sprintf("u%d.unknown.example", i)
			if i == 0 {
				name = "cold-1.stored.example"
			}
			ctx, cancel := context.WithTimeout(s.ctx, 15*time.Second)
			defer cancel()
			began := time.Now()
			a, err := k.Knock(ctx, e.addr, "", name)
			if took := time.Since(began); a != traffic.Closed || took < 5*time.Second || took > 13*time.Second {
				t.Errorf("%s, of which nobody can tell: %v after %s, %v", name, a, took, err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	during := s.warm(s.ctx, e, known, 2*time.Second)
	first := s.warm(s.ctx, e, cold[1:], 2*time.Second)
	t.Logf("known hosts p99 %s (%d), cold hosts of the directory p99 %s (%d)", quantile(during, 0.99), len(during), quantile(first, 0.99), len(first))
	if q := max(quantile(during, 0.99), quantile(first, 0.99)); q > time.Second {
		t.Errorf("others were held up: %s", q)
	}
	group.Wait()
	s.ok(redis.Resume())
	for _, n := range []string{"cold-1.stored.example", "cold-2.stored.example"} {
		s.within(30*time.Second, func() error { _, err := s.full(s.ctx, e, n); return err })
	}
	s.within(30*time.Second, func() error {
		ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := k.Knock(ctx, e.addr, "", "other.unknown.example"); err != nil || time.Since(began) > time.Second {
			return fmt.Errorf("an unknown name: %s, %w", time.Since(began), err)
		}
		return nil
	})
}

// TestOneBrokenCertificateAndTenThousandRenewals: of ten thousand hosts that a node holds one is broken, which `status` names and nobody else notices; then all
// are renewed at once, which delays no rotation.
func TestOneBrokenCertificateAndTenThousandRenewals(t *testing.T) {
	const hosts = 10_000
	s := demand(t)
	s.ctx = context.WithoutCancel(s.ctx)
	start := time.Now()
	var names []string
	for _, version := range []string{"v1", "v2"} { // all at once: each host's folder leads through one link
		to := *s
		to.certs = s.path(version)
		names = to.many(hosts)
	}
	s.ok(os.Symlink("v1", s.path("data")))
	for _, n := range names {
		s.ok(os.Symlink(filepath.Join("..", "data", n), filepath.Join(s.certs, n)))
	}
	e := s.onDemand("edge-1", false)
	s.ready()
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
	s.within(time.Minute, func() error { _, err := s.full(s.ctx, e, names[hosts-1]); return err }) // the directory was read
	t.Logf("the directory was read %s after the start", time.Since(start).Round(time.Millisecond))
	held, coldBroken := names[7], "broken.example"
	began := time.Now()
	hold(names)
	t.Logf("%d hosts were asked for in %s", hosts, time.Since(began).Round(time.Millisecond))

	s.ok(os.WriteFile(filepath.Join(fleet.HostDir(s.certs, held), "tls.crt"), []byte("broken"), 0o600))
	s.ok(fleet.WriteHost(s.certs, coldBroken, fleet.Pair{Chain: []byte("broken"), Key: []byte("broken")}))
	s.within(time.Minute, func() error {
		var st status
		s.ok(s.show(&st, "status"))
		if all := strings.Join(st.Certificates.Problems, "\n"); !strings.Contains(all, held) || !strings.Contains(all, coldBroken) {
			return fmt.Errorf("problems: %q", st.Certificates.Problems)
		}
		return nil
	})
	s.fails(3, "certificate", "status")
	broken := make(chan traffic.Answer)
	go func() {
		ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
		defer cancel()
		a, _ := k.Knock(ctx, e.addr, "", coldBroken)
		broken <- a
	}()
	busy := s.warm(s.ctx, e, names[:20], 2*time.Second) // the broken one among them: its last good certificate stays
	t.Logf("all others, and the last good one: %d handshakes, p99 %s", len(busy), quantile(busy, 0.99))

	rotate := func() time.Duration {
		began := time.Now()
		s.done("rotate", "--wait", "--timeout", "30s", "--why", "test")
		return time.Since(began)
	}
	idle := max(rotate(), rotate())
	sent := s.secrets("sent")
	s.ok(os.Symlink("v2", s.path("data.new")))
	s.ok(os.Rename(s.path("data.new"), s.path("data")))
	var slowest time.Duration
	n := 0
	for begun := time.Now(); s.secrets("sent") < sent+hosts && time.Since(begun) < time.Minute; {
		if time.Sleep(100 * time.Millisecond); n < 11 && s.secrets("sent") > sent+100 { // a ring takes 16 keys
			slowest = max(slowest, rotate())
			n++
		}
	}
	if a := <-broken; a != traffic.Closed {
		t.Errorf("%s: %v", coldBroken, a)
	}
	t.Logf("rotations took %s idle, %s at most of %d while %.0f certificates were sent", idle, slowest, n, s.secrets("sent")-sent)
	if got := s.secrets("sent") - sent; got < hosts {
		t.Errorf("%.0f renewals reached the node, of %d", got, hosts)
	}
	if slowest > idle+3*time.Second { // alone: within one
		t.Errorf("a rotation took %s, idle %s", slowest, idle)
	}
}
