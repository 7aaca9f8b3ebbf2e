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
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// plane is a control plane: lockstepd or stock. Of stock there are a process and its addresses.
type plane struct {
	*fleet.Lockstepd
	b        *bench
	token    string
	nodes    int // nodes is how many a crowd has connected.
	rotation int // rotation is the latest one, or burn, that was started here.
}

// ours starts a lockstepd on a data directory, or on a new one where data is "".
func (b *bench) ours(data string, args ...string) *plane {
	return b.lockstepd("lockstepd", fleet.Lockstepd{Data: data, Args: args}).ready()
}

// lockstepd starts one and does not wait for it.
func (b *bench) lockstepd(name string, o fleet.Lockstepd) *plane {
	o.Bin = b.bin
	o.XDS = newAddr() // as the others of the bench, over TCP
	if !slices.Contains(o.Args, "--xds-cert") {
		o.Args = append(o.Args, "--xds-open")
	}
	return &plane{Lockstepd: must(b.fleet.Lockstepd(b.fresh(name), o)), b: b}
}

func (p *plane) ready() *plane {
	p.b.soon(p.Ready)
	p.token = strings.TrimSpace(string(must(os.ReadFile(filepath.Join(p.Data, "admin.token")))))
	return p
}

// start starts a burn, which is one push, or a rotation. The request is the same for both kinds of
// planes.
func (p *plane) start(what string) {
	var begun struct{ Rotation int }
	check(p.call(http.MethodPost, "/v1/scopes/default/"+what, []byte("{}"), &begun))
	p.rotation = begun.Rotation
}

// rest waits until all that the latest rotation or burn set off is over. A burn goes on until 10 s
// after the last ACK.
func (p *plane) rest() {
	p.b.until(func() error {
		var r struct{ Ended bool }
		err := p.call(http.MethodGet, fmt.Sprintf("/v1/scopes/default/rotations/%d", p.rotation), nil, &r)
		if err == nil && !r.Ended {
			err = fmt.Errorf("rotation %d of %s goes on", p.rotation, p.Name())
		}
		return err
	})
}

// makeRoom burns the keys if no rotation may be asked for any more, and waits until that is over.
func (p *plane) makeRoom() {
	var s struct {
		Scopes []struct {
			Requests struct {
				Left int `json:"left_to_you"`
			}
		}
	}
	check(p.call(http.MethodGet, "/v1/status", nil, &s))
	if s.Scopes[0].Requests.Left == 0 {
		p.start("burn")
		p.rest()
	}
}

// call makes a request to the control address. The JSON of the answer goes into v, if that is not
// nil.
func (p *plane) call(method, path string, body []byte, v any) error {
	ctx, cancel := context.WithTimeout(p.b.ctx, patience)
	defer cancel()
	req := must(http.NewRequestWithContext(ctx, method, "http://"+p.Admin+path, bytes.NewReader(body)))
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
	c := stockConfig{XDS: newAddr(), Admin: newAddr(), Certs: certs, Pair: b.pair, TLS: files}
	p := b.role("stock", c, "")
	b.listening(c.Admin)
	return &plane{Lockstepd: &fleet.Lockstepd{Process: p, XDS: c.XDS, Admin: c.Admin}, b: b}
}

// mTLS makes the files of the servers and those of the nodes.
func (b *bench) mTLS() (server, client *swarm.Files) {
	files := func(leaf fleet.Leaf) *swarm.Files {
		pair, file := must(b.ca.Issue(leaf)), b.file
		return &swarm.Files{
			Cert: file("tls.pem", pair.Chain), Key: file("tls.key", pair.Key), CA: file("ca.pem", b.ca.PEM()),
		}
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
	store, events := "redis://"+s.redis.Addr+"/0?prefix="+prefix, "nats://"+s.nats.Addrs()
	args = append(args, "--store", store, "--events", events, "--kek", s.kek)
	return s.b.lockstepd(prefix, fleet.Lockstepd{NATS: "-", Args: args}).ready()
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

// connect connects nodes to p, as cmd says. Each asks for the ring, too. Their set has p's name.
func (c crowd) connect(p *plane, nodes int, cmd swarm.Command) swarm.Reply {
	p.nodes = nodes
	cmd.Op, cmd.Set, cmd.Addr, cmd.Nodes = "connect", p.Name(), p.XDS, nodes
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

// accepted triggers something that each node of the planes accepts so many times. It returns the
// seconds from the trigger until half of the nodes had sent their last ACK, and until all had.
func (c crowd) accepted(times int, trigger func(), planes ...*plane) (half, all float64) {
	for _, p := range planes {
		c.do(swarm.Command{Op: "arm", Set: p.Name(), Accepts: times})
	}
	at := time.Now()
	trigger()
	for _, p := range planes {
		r := c.do(swarm.Command{Op: "wait", Set: p.Name()})
		half, all = max(half, time.Unix(0, r.Median).Sub(at).Seconds()),
			max(all, time.Unix(0, r.Last).Sub(at).Seconds())
	}
	return half, all
}

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

// round starts something on p that its nodes accept so many times.
func (c crowd) round(p *plane, what string, accepts int) (s sample) {
	before := cpuOf(p.PID())
	s[halfACKs], s[lastACK] = c.accepted(accepts, func() { p.start(what) }, p)
	p.b.sleep(aftermath)
	s[cpuPerNode] = (cpuOf(p.PID()) - before) / float64(p.nodes)
	p.b.sleep(pause)
	return s
}

// push returns a turn of one push.
func (c crowd) push(p *plane) func() sample {
	return func() sample { return c.round(p, "burn", 1) }
}

// rotate returns a turn of a whole rotation: two pushes, the second once every node has accepted
// the first. It waits first until what came before is over.
func (c crowd) rotate(p *plane) func() sample {
	return func() sample {
		p.rest()
		p.makeRoom()
		return c.round(p, "rotate", 2)
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
