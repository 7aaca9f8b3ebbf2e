package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// plane is a control plane: lockstepd or stock.
type plane struct {
	*fleet.Process
	b       *bench
	name    string
	xds     string // host:port
	control string // base URL
	token   string

	// one push of the ring; what it sets off may go on: a burn ends 10 s after the last ACK
	push func()
	rest func() // until all that the last rotation or burn set off is over
}

// ours starts a lockstepd on a data directory, or on a new one where data is "". With TLS files,
// nodes come over mTLS.
func (b *bench) ours(data string, files *mTLS) *plane {
	// without Data it makes one, in a folder of its name
	return b.lockstepd(fleet.Lockstepd{Bin: b.bin, Data: data, Args: files.args()})
}

func (b *bench) lockstepd(o fleet.Lockstepd) *plane {
	p := b.started(must(b.fleet.Lockstepd(b.fresh("lockstepd"), o)))
	p.name = "lockstepd"
	return p
}

func (b *bench) started(l *fleet.Lockstepd) *plane {
	p := &plane{Process: l.Process, b: b, name: l.Name(), xds: l.XDS, control: "http://" + l.Admin}
	b.ready(l.Process)
	p.token = strings.TrimSpace(string(must(os.ReadFile(filepath.Join(l.Data, "admin.token")))))
	p.push = func() { p.start("burn") }
	p.rest = func() {}
	return p
}

// start starts a burn or a rotation.
func (p *plane) start(what string) {
	var begun struct{ Rotation int }
	check(p.call(http.MethodPost, "/v1/scopes/default/"+what, []byte("{}"), &begun))
	p.rest = func() {
		p.b.until(func() error {
			var r struct {
				Ended     bool
				BlockedBy []string `json:"blocked_by"`
			}
			if err := p.call(http.MethodGet, fmt.Sprintf("/v1/scopes/default/rotations/%d", begun.Rotation), nil, &r); err != nil {
				return err
			}
			if !r.Ended {
				return fmt.Errorf("%s %d waits for %d nodes", what, begun.Rotation, len(r.BlockedBy))
			}
			return nil
		})
	}
}

// call makes a request to the control address; v, if not nil, gets the JSON of the answer.
func (p *plane) call(method, path string, body []byte, v any) error {
	ctx, cancel := context.WithTimeout(p.b.ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.control+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(b, v)
}

// put stores a certificate, as the body of certBody.
func (p *plane) put(name string, body []byte) {
	check(p.call(http.MethodPut, "/v1/certs/"+name, body, nil))
}

func certBody(p fleet.Pair) []byte {
	return must(json.Marshal(struct{ Chain, Key []byte }{p.Chain, p.Key}))
}

// settled returns a server's resident memory in bytes when five seconds make less than 1 % of
// difference. Nothing is asked of the runtime: what counts is what an operator sees, garbage
// included.
func (b *bench) settled(p *fleet.Process) (rss int64) {
	for range 12 {
		before := rss
		if rss = memoryOf(p.PID(), "VmRSS"); before > 0 && rss > before-before/100 && rss < before+before/100 {
			return rss
		}
		b.sleep(5 * time.Second)
	}
	return rss
}

// anonymous is settled without the pages of files: those of the embedded store come and go with
// what else the machine does.
func (p *plane) anonymous() int64 {
	p.b.settled(p.Process)
	return memoryOf(p.PID(), "RssAnon")
}

// stock starts one with so many certificates. With TLS files, nodes come over mTLS.
func (b *bench) stock(certs int, files *mTLS) *plane {
	c := stockConfig{XDS: newAddr(), Control: newAddr(), Certs: certs, Pair: b.pair}
	if files != nil {
		c.TLS = files.server
	}
	p := &plane{b: b, name: "stock", xds: c.XDS, control: "http://" + c.Control, Process: b.role("stock", c, "", "http://"+c.Control+"/readyz")}
	p.push = func() { check(p.call(http.MethodPost, "/push", nil, nil)) }
	p.rest = func() {}
	b.ready(p.Process)
	return p
}

// mTLS is the files of the servers and those of the nodes.
type mTLS struct{ server, client *swarm.Files }

func (b *bench) mTLS() *mTLS {
	dir := b.folder("tls")
	files := func(name string, leaf fleet.Leaf) *swarm.Files {
		pair, path := must(b.ca.Issue(leaf)), filepath.Join(dir, name)
		f := &swarm.Files{Cert: path + ".pem", Key: path + ".key", CA: path + "-ca.pem"}
		for path, content := range map[string][]byte{f.Cert: pair.Chain, f.Key: pair.Key, f.CA: b.ca.PEM()} {
			check(os.WriteFile(path, content, 0o600))
		}
		return f
	}
	return &mTLS{
		files("server", fleet.Leaf{Names: []string{"localhost"}, IPs: []string{"127.0.0.1"}}),
		files("client", fleet.Leaf{URIs: []string{"spiffe://bench.example/node"}}),
	}
}

func (m *mTLS) args() []string {
	if m == nil {
		return nil
	}
	return []string{"--xds-cert", m.server.Cert, "--xds-key", m.server.Key, "--xds-client-ca", m.server.CA}
}

// shared is a Redis and a NATS for replicas.
type shared struct {
	b     *bench
	redis *fleet.RedisServer
	nats  *fleet.NATS
	kek   string
}

func (b *bench) shared() *shared {
	return &shared{
		b: b, kek: filepath.Join(b.fleet.Dir(), b.fresh("sealing")+".key"),
		redis: must(b.fleet.Redis(b.ctx, b.fresh("redis"))), nats: must(b.fleet.NATS(b.ctx, b.fresh("nats"), 1)),
	}
}

// replica starts a lockstepd on a store in s; prefix parts one store from another.
func (s *shared) replica(prefix string, files *mTLS) *plane {
	return s.b.started(must(s.b.fleet.Lockstepd(s.b.fresh(prefix), fleet.Lockstepd{Bin: s.b.bin, NATS: "-", Args: append([]string{
		"--store", "redis://" + s.redis.Addr + "/0?prefix=" + prefix, "--events", "nats://" + s.nats.Addrs(), "--kek", s.kek,
	}, files.args()...)})))
}

// writes is how many values were ever written to s.
func (s *shared) writes() int {
	m := regexp.MustCompile(`cmdstat_set:calls=(\d+)`).FindStringSubmatch(fmt.Sprint(must(s.redis.Do(s.b.ctx, "INFO", "commandstats"))))
	if m == nil {
		check(errors.New("no SET is counted by Redis"))
	}
	return must(strconv.Atoi(m[1]))
}

// rounds of each kind, alternating, after those that warm up.
const (
	rounds = 12
	warmUp = 2
)

// Around each round: time for what an acceptance sets off in the server, and a pause until the next
// trigger.
const (
	aftermath = 300 * time.Millisecond
	pause     = 700 * time.Millisecond
)

// sample is one round.
type sample struct {
	last   time.Duration // from the trigger to the ACK of the last node
	median time.Duration // to that of half of them
	cpu    time.Duration // of the server, aftermath included
}

// round triggers something on p that its nodes, the set of that name, accept so many times.
func (c *crowd) round(p *plane, accepts int, trigger func()) (s sample) {
	c.do(swarm.Command{Op: "arm", Set: p.name, Accepts: accepts})
	before, at := cpuOf(p.PID()), time.Now()
	trigger()
	r := c.do(swarm.Command{Op: "wait", Set: p.name})
	p.b.sleep(aftermath)
	s = sample{last: time.Unix(0, r.Last).Sub(at), median: time.Unix(0, r.Median).Sub(at), cpu: cpuOf(p.PID()) - before}
	p.b.sleep(pause)
	return s
}

func (c *crowd) push(p *plane) sample { return c.round(p, 1, p.push) }

// rotate is a whole rotation: two pushes, the second once every node has accepted the first. It
// waits first until what came before is over.
func (c *crowd) rotate(p *plane) sample {
	p.rest()
	return c.round(p, 2, func() { p.start("rotate") })
}

// turn is what one side does when it is its turn, round by round.
type turn func() sample

// alternate lets the sides take turns and returns what each measured, without the rounds that warm
// up.
func (b *bench) alternate(turns ...turn) [][]sample {
	all := make([][]sample, len(turns))
	for i := range warmUp + b.size(rounds, 4) {
		for j, t := range turns {
			if s := t(); i >= warmUp {
				all[j] = append(all[j], s)
			}
		}
	}
	return all
}

// duel is ours and stock, each with so many nodes that hold the same names, connected and idle.
func (b *bench) duel(nodes, certs int, grpc bool) (c *crowd, ours, stock *plane) {
	ours, stock, c = b.ours(b.data(certs), nil), b.stock(certs, nil), b.crowd()
	c.join(ours, nodes, certs, grpc)
	c.join(stock, nodes, certs, grpc)
	b.sleep(2 * time.Second)
	return c, ours, stock
}
