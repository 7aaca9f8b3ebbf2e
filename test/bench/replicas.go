package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// shared is a Redis and a NATS for replicas.
type shared struct {
	redis *fleet.RedisServer
	nats  *fleet.NATS
	kek   string
}

func (b *bench) shared(ctx context.Context) (*shared, error) {
	s := &shared{kek: filepath.Join(b.fleet.Dir(), b.fresh("sealing")+".key")}
	var err error
	if s.redis, err = b.fleet.Redis(ctx, b.fresh("redis")); err != nil {
		return nil, err
	}
	s.nats, err = b.fleet.NATS(ctx, b.fresh("nats"), 1)
	return s, err
}

// replica starts a lockstepd on a store in s; prefix parts one store from another.
func (b *bench) replica(ctx context.Context, s *shared, prefix string, files *mTLS) (*plane, error) {
	o := fleet.Lockstepd{Bin: b.bin, NATS: "-", Args: []string{
		"--store", "redis://" + s.redis.Addr + "/0?prefix=" + prefix, "--events", "nats://" + s.nats.Addrs(), "--kek", s.kek,
	}}
	if files != nil {
		o.Args = append(o.Args, "--xds-cert", files.server.Cert, "--xds-key", files.server.Key, "--xds-client-ca", files.server.CA)
	}
	l, err := b.fleet.Lockstepd(b.fresh(prefix), o)
	if err != nil {
		return nil, err
	}
	p := &plane{name: l.Name(), proc: l.Process, xds: l.XDS, control: "http://" + l.Admin, client: &http.Client{}}
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(l.Data, "admin.token"))
	p.token = strings.TrimSpace(string(token))
	p.rest = func(context.Context) error { return nil }
	return p, err
}

// writes is how many values were ever written to s.
func (s *shared) writes(ctx context.Context) (n int, err error) {
	v, err := s.redis.Do(ctx, "INFO", "commandstats")
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`cmdstat_set:calls=(\d+)`).FindStringSubmatch(fmt.Sprint(v))
	if m == nil {
		return 0, errors.New("no SET is counted by Redis")
	}
	return strconv.Atoi(m[1])
}

// replicas measures a rotation over two replicas with half of the nodes each against one replica with all, what a rotation writes to the store,
// and a decision of a large policy.
func replicas(ctx context.Context, b *bench) ([]row, error) {
	s, err := b.shared(ctx)
	if err != nil {
		return nil, err
	}
	nodes := b.size(5000, 500)
	c, err := b.crowd()
	if err != nil {
		return nil, err
	}
	defer c.close()
	var one, two []*plane
	for _, p := range []struct {
		prefix string
		into   *[]*plane
	}{{"one", &one}, {"two", &two}, {"two", &two}} {
		r, err := b.replica(ctx, s, p.prefix, nil)
		if err != nil {
			return nil, err
		}
		*p.into = append(*p.into, r)
	}
	for _, planes := range [][]*plane{one, two} {
		for _, p := range planes {
			if err := c.join(p, nodes/len(planes), 0, false); err != nil {
				return nil, err
			}
		}
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	var times [2][]float64
	var writes []float64
	for i := range warmUp + b.size(rounds, 4) {
		for j, planes := range [][]*plane{two, one} {
			before, err := s.writes(ctx)
			if err != nil {
				return nil, err
			}
			took, err := rotateAll(ctx, c, planes)
			if err != nil {
				return nil, err
			}
			after, err := s.writes(ctx)
			if err != nil {
				return nil, err
			}
			if i >= warmUp {
				times[j] = append(times[j], took.Seconds())
				if j == 1 {
					writes = append(writes, float64(after-before))
				}
			}
		}
	}
	few, err := b.writesOf(ctx, s, b.size(500, 50))
	if err != nil {
		return nil, err
	}
	count := func(n float64) string { return fmt.Sprintf("%.0f", n) }
	stored := compare(fmt.Sprintf("store writes in the second after a rotation begins, %d nodes on a replica, against %d", nodes, b.size(500, 50)), writes, few, reported, count)
	stored.must, stored.short = "≤ 20", median(writes) > 20
	decision, err := policyRow(b)
	return []row{
		compare(fmt.Sprintf("a whole rotation over two replicas with %d nodes each, against one with %d", nodes/2, nodes), times[0], times[1], atMost(1.2), inMS),
		stored, decision,
	}, err
}

// rotateAll is a whole rotation of the fleet on these replicas of one store, until the last ACK of the second push.
func rotateAll(ctx context.Context, c *crowd, planes []*plane) (time.Duration, error) {
	for _, p := range planes {
		if _, err := c.do(swarm.Command{Op: "arm", Set: p.name, Accepts: 2}); err != nil {
			return 0, err
		}
	}
	at := time.Now()
	if err := planes[0].begin(ctx, "rotate"); err != nil {
		return 0, err
	}
	var last int64
	for _, p := range planes {
		r, err := c.do(swarm.Command{Op: "wait", Set: p.name})
		if err != nil {
			return 0, fmt.Errorf("nodes of %s: %w", p.name, err)
		}
		last = max(last, r.Last)
	}
	resting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return time.Unix(0, last).Sub(at), errors.Join(sleep(ctx, time.Second), planes[0].rest(resting))
}

// writesOf counts what rotations of a small fleet write.
func (b *bench) writesOf(ctx context.Context, s *shared, nodes int) (all []float64, err error) {
	p, err := b.replica(ctx, s, "few", nil)
	if err != nil {
		return nil, err
	}
	c, err := b.crowd()
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.join(p, nodes, 0, false); err != nil {
		return nil, err
	}
	for range b.size(rounds, 4) {
		before, err := s.writes(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := rotateAll(ctx, c, []*plane{p}); err != nil {
			return nil, err
		}
		after, err := s.writes(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, float64(after-before))
	}
	return all, nil
}

// policyRow times decisions of a policy of 10 000 rules: for identities that it has seen, and at first sight.
func policyRow(b *bench) (row, error) {
	rules := b.size(10_000, 1000)
	var y strings.Builder
	y.WriteString("rules:\n")
	for i := range rules {
		fmt.Fprintf(&y, "- {identity: \"spiffe://fleet.example/team-%d/*\", scopes: [default], names: [\"*.team-%d.example\"]}\n", i, i)
	}
	p, err := identity.Parse([]byte(y.String()))
	if err != nil {
		return row{}, err
	}
	const decisions = 100_000
	took := func(id func(i int) string) float64 {
		ids := make([]string, decisions)
		for i := range ids {
			ids[i] = id(i)
		}
		begin := time.Now()
		for i, id := range ids {
			p.AllowsName(id, keysource.Name("shop.team-"+strconv.Itoa(i%rules)+".example"))
		}
		return time.Since(begin).Seconds() / decisions
	}
	fresh := took(func(i int) string { return fmt.Sprintf("spiffe://fleet.example/team-%d/edge-%d", i%rules, i) })
	known := took(func(i int) string { return fmt.Sprintf("spiffe://fleet.example/team-%d/edge-%d", i%100, i%100) })
	return row{
		what: fmt.Sprintf("a decision of a policy of %d rules: at first sight of an identity; again", rules),
		ours: inUS(fresh), stock: inUS(known), must: "≤ 5 µs", short: fresh > 5e-6,
	}, nil
}

// refuge is a fleet over mTLS on two replicas, one of which is killed: its nodes go to the other, all at once.
func refuge(ctx context.Context, b *bench) ([]row, error) {
	nodes := b.size(2000, 200)
	files, err := b.mTLS()
	if err != nil {
		return nil, err
	}
	var times, peaks, steady []float64
	for range b.size(3, 1) {
		took, before, peak, err := b.flee(ctx, files, nodes)
		if err != nil {
			return nil, err
		}
		times, peaks, steady = append(times, took.Seconds()), append(peaks, float64(peak)), append(steady, float64(before))
		if err := b.end(); err != nil {
			return nil, err
		}
	}
	moved := row{what: fmt.Sprintf("%d nodes over mTLS whose replica is killed: until all are on the other", nodes), ours: inSeconds(median(times)), must: "≤ 10 s", short: median(times) > 10}
	return []row{moved, compare("— peak memory of the other, against what it holds then", peaks, steady, atMost(2), inMB)}, nil
}

func (b *bench) flee(ctx context.Context, files *mTLS, nodes int) (took time.Duration, steady, peak int64, err error) {
	s, err := b.shared(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	var planes [2]*plane
	for i := range planes {
		if planes[i], err = b.replica(ctx, s, "fleet", files); err != nil {
			return 0, 0, 0, err
		}
	}
	c, err := b.crowd()
	if err != nil {
		return 0, 0, 0, err
	}
	defer c.close()
	lost, kept := planes[0], planes[1]
	_, err = c.do(swarm.Command{Op: "connect", Set: "fleet", Addr: lost.xds, Refuge: kept.xds, Nodes: nodes, Names: []string{ring}, Parallel: 32, TLS: files.client})
	if err != nil {
		return 0, 0, 0, err
	}
	if _, err := kept.settled(ctx); err != nil {
		return 0, 0, 0, err
	}
	if err := resetPeak(kept.proc.PID()); err != nil {
		return 0, 0, 0, err
	}
	if _, err := c.do(swarm.Command{Op: "arm", Set: "fleet", Accepts: 1}); err != nil {
		return 0, 0, 0, err
	}
	begin := time.Now()
	if err := lost.proc.Kill(); err != nil {
		return 0, 0, 0, err
	}
	r, err := c.do(swarm.Command{Op: "wait", Set: "fleet"})
	if err != nil {
		return 0, 0, 0, err
	}
	if peak, err = memoryOf(kept.proc.PID(), "VmHWM"); err != nil {
		return 0, 0, 0, err
	}
	steady, err = kept.settled(ctx)
	return time.Unix(0, r.Last).Sub(begin), steady, peak, err
}
