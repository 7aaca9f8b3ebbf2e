package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// plane is a control plane: lockstepd or stock.
type plane struct {
	*fleet.Process
	b       *bench
	data    string // data is the data directory of a lockstepd.
	xds     string // host:port
	control string // base URL
	token   string
	nodes   int    // nodes is how many a crowd has connected.
	push    func() // push pushes the ring once. A burn goes on until 10 s after the last ACK.
	rest    func() // rest waits until all that the last rotation or burn set off is over.
}

// ours starts a lockstepd on a data directory, or on a new one where data is "".
func (b *bench) ours(data string, args ...string) *plane {
	return b.lockstepd("lockstepd", fleet.Lockstepd{Data: data, Args: args})
}

func (b *bench) lockstepd(name string, o fleet.Lockstepd) *plane {
	p := b.begin(name, o)
	b.soon(p.Ready)
	p.token = strings.TrimSpace(string(must(os.ReadFile(filepath.Join(p.data, "admin.token")))))
	return p
}

// begin starts a lockstepd and does not wait for it.
func (b *bench) begin(name string, o fleet.Lockstepd) *plane {
	o.Bin = b.bin
	l := must(b.fleet.Lockstepd(b.fresh(name), o))
	p := &plane{Process: l.Process, b: b, data: l.Data, xds: l.XDS, control: "http://" + l.Admin, rest: func() {}}
	p.push = func() { p.start("burn") }
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
			err := p.call(http.MethodGet, fmt.Sprintf("/v1/scopes/default/rotations/%d", begun.Rotation), nil, &r)
			if err == nil && !r.Ended {
				err = fmt.Errorf("%s %d waits for %d nodes", what, begun.Rotation, len(r.BlockedBy))
			}
			return err
		})
	}
}

// call makes a request to the control address. The JSON of the answer goes into v, if that is not
// nil.
func (p *plane) call(method, path string, body []byte, v any) error {
	ctx, cancel := context.WithTimeout(p.b.ctx, patience)
	defer cancel()
	req := must(http.NewRequestWithContext(ctx, method, p.control+path, bytes.NewReader(body)))
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	case v == nil:
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

// stock starts one with so many certificates. With TLS files, nodes come over mTLS.
func (b *bench) stock(certs int, files *swarm.Files) *plane {
	c := stockConfig{XDS: newAddr(), Control: newAddr(), Certs: certs, Pair: b.pair, TLS: files}
	p := &plane{Process: b.role("stock", c, ""), b: b, xds: c.XDS, control: "http://" + c.Control, rest: func() {}}
	p.push = func() { check(p.call(http.MethodPost, "/push", nil, nil)) }
	b.listening(c.Control)
	return p
}

// mTLS makes the files of the servers and those of the nodes.
func (b *bench) mTLS() (server, client *swarm.Files) {
	files := func(leaf fleet.Leaf) *swarm.Files {
		pair := must(b.ca.Issue(leaf))
		return &swarm.Files{Cert: b.file("tls.pem", pair.Chain), Key: b.file("tls.key", pair.Key), CA: b.file("ca.pem", b.ca.PEM())}
	}
	return files(fleet.Leaf{Names: []string{"localhost"}, IPs: []string{"127.0.0.1"}}),
		files(fleet.Leaf{URIs: []string{"spiffe://bench.example/node"}})
}

// withTLS is the flags of a lockstepd to which nodes come over mTLS.
func withTLS(f *swarm.Files) []string {
	return []string{"--xds-cert", f.Cert, "--xds-key", f.Key, "--xds-client-ca", f.CA}
}

// shared is a Redis and a NATS for replicas.
type shared struct {
	b     *bench
	redis *fleet.RedisServer
	nats  *fleet.NATS
	kek   string
}

func (b *bench) shared() *shared {
	redis, nats := must(b.fleet.Redis(b.ctx, b.fresh("redis"))), must(b.fleet.NATS(b.ctx, b.fresh("nats"), 1))
	return &shared{b, redis, nats, filepath.Join(b.fleet.Dir(), b.fresh("sealing")+".key")}
}

// replica starts a lockstepd on a store in s. Its prefix parts one store from another.
func (s *shared) replica(prefix string, args ...string) *plane {
	args = append(args, "--store", "redis://"+s.redis.Addr+"/0?prefix="+prefix, "--events", "nats://"+s.nats.Addrs(), "--kek", s.kek)
	return s.b.lockstepd(prefix, fleet.Lockstepd{NATS: "-", Args: args})
}

// writes is how many values were ever written to s.
func (s *shared) writes() float64 {
	info := must(s.redis.Do(s.b.ctx, "INFO", "commandstats"))
	return float64(number(fmt.Sprint(info), `cmdstat_set:calls=(\d+)`))
}

// crowd is a process of nodes.
type crowd struct{ worker }

func (b *bench) crowd() crowd { return crowd{b.worker("swarm", "")} }

func (c crowd) do(cmd swarm.Command) (r swarm.Reply) {
	cmd.Timeout, cmd.Ring = max(cmd.Timeout, patience), ring
	c.order(cmd, &r)
	return r
}

// connect connects nodes to p, so many at a time. The set that they are in has p's name.
func (c crowd) connect(p *plane, nodes int, cmd swarm.Command) swarm.Reply {
	p.nodes = nodes
	cmd.Op, cmd.Set, cmd.Addr, cmd.Nodes = "connect", p.Name(), p.xds, nodes
	cmd.Names = append([]string{ring}, cmd.Names...)
	return c.do(cmd)
}

// join connects nodes to p. Each asks for the ring and so many certificates.
func (c crowd) join(p *plane, nodes, certs int, grpc bool) {
	cmd := swarm.Command{Parallel: 32, GRPC: grpc}
	for i := range certs {
		cmd.Names = append(cmd.Names, certName(i))
	}
	c.connect(p, nodes, cmd)
}

// arm has so many acceptances of the ring awaited on each node of p.
func (c crowd) arm(p *plane, accepts int) {
	c.do(swarm.Command{Op: "arm", Set: p.Name(), Accepts: accepts})
}

// wait returns when they have come.
func (c crowd) wait(p *plane) swarm.Reply { return c.do(swarm.Command{Op: "wait", Set: p.Name()}) }

// counted is how many rounds there are of each kind, after those that warm up.
const counted, warmUp = 12, 2

// After the last ACK of a round: time for what an acceptance sets off in the server, and a pause
// until the next trigger.
const aftermath, pause = 300 * time.Millisecond, 700 * time.Millisecond

// These are what a round measures.
const (
	lastACK     = iota // seconds from the trigger until the last node had sent its ACK
	halfACKs           // the same, until half of them had
	cpuPerNode         // the server's seconds for each node, aftermath included
	storeWrites        // how many values were written to the store of replicas
	measures
)

type sample [measures]float64

// round triggers something on p that its nodes accept so many times.
func (c crowd) round(p *plane, accepts int, trigger func()) (s sample) {
	c.arm(p, accepts)
	before, at := cpuOf(p.PID()), time.Now()
	trigger()
	r := c.wait(p)
	p.b.sleep(aftermath)
	s[lastACK], s[halfACKs] = since(at, r.Last), since(at, r.Median)
	s[cpuPerNode] = (cpuOf(p.PID()) - before) / float64(p.nodes)
	p.b.sleep(pause)
	return s
}

// since is the seconds until a time of the swarm.
func since(at time.Time, nanos int64) float64 { return time.Unix(0, nanos).Sub(at).Seconds() }

// push returns a turn of one push.
func (c crowd) push(p *plane) func() sample {
	return func() sample { return c.round(p, 1, p.push) }
}

// rotate returns a turn of a whole rotation: two pushes, the second once every node has accepted the
// first. It waits first until what came before is over.
func (c crowd) rotate(p *plane) func() sample {
	return func() sample {
		p.rest()
		return c.round(p, 2, func() { p.start("rotate") })
	}
}

// alternate lets two sides take turns.
func (b *bench) alternate(turns ...func() sample) (all [measures]figures) {
	for i := range warmUp + b.size(counted, 4) {
		for side, turn := range turns {
			for measure, x := range turn() {
				if i >= warmUp {
					all[measure].add(side, x)
				}
			}
		}
	}
	return all
}
