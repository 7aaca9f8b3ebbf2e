package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

const (
	hosts    = 20
	lifetime = 20 * time.Second // of a ticket: short, so that the demo shows keys leave
)

// stage is the running fleet.
type stage struct {
	begin    time.Time
	fleet    *fleet.Fleet
	dir      string
	cli      string
	ca       *fleet.CA
	upstream *fleet.Upstream
	plane    *fleet.Lockstepd
	nodes    []*node // of all packs
	packs    []*pack
	names    []string
	halt     context.CancelFunc
	busy     sync.WaitGroup
	crossed  map[uint64]map[string]int // rotation, phase: tickets offered at other nodes after it
	uncross  []string                  // pairs that did not resume, and keys that were not offered
}

// pack is nodes of one kind: they have one ring with all others, and take each other's tickets.
type pack struct {
	what    string
	nodes   []*node
	traffic *traffic.Traffic
	held    []*node // with connections that are held open: they are not killed
	open    *traffic.Open
	cut     map[uint16][]string // connections, by TLS version
	beats   int
}

type node struct {
	name, addr, admin string
	*fleet.Process
}

func setUp(ctx context.Context) (_ *stage, err error) {
	dir, err := os.MkdirTemp("", "lockstep-demo-")
	if err != nil {
		return nil, err
	}
	s := &stage{begin: time.Now(), dir: dir, crossed: map[uint64]map[string]int{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.say("building lockstepd, lockstep and lockstep-edge, if they are not up to date")
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep", "lockstep-edge")
	if err != nil {
		return nil, err
	}
	s.say("issuing certificates for %d hosts", hosts)
	s.cli = filepath.Join(bin, "lockstep")
	if s.fleet, err = fleet.New(dir); err != nil {
		return nil, err
	}
	if err := s.certificates(); err != nil {
		return nil, err
	}
	if s.upstream, err = fleet.NewUpstream(); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "lockstep.yaml")
	policy := fmt.Sprintf("scopes:\n  default:\n    ticket_lifetime: %s\n    period: 1h\n", lifetime)
	if err := os.WriteFile(config, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	s.say("starting lockstepd")
	s.plane, err = s.fleet.Lockstepd("lockstepd",
		fleet.Lockstepd{Bin: bin, Certs: filepath.Join(dir, "certs"), XDS: "-", Args: []string{"--config", config}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.plane.Ready(ctx); err != nil {
		return nil, err
	}
	s.say("starting three Envoys and two of lockstep-edge")
	envoys, edges := &pack{what: "Envoy"}, &pack{what: "lockstep-edge"}
	for i := range 3 {
		n, err := s.envoy(ctx, fmt.Sprintf("edge-%d", i+1))
		if err != nil {
			return nil, err
		}
		envoys.nodes = append(envoys.nodes, n)
	}
	for i := range 2 {
		n, err := s.edge(bin, fmt.Sprintf("lockstep-edge-%d", i+1))
		if err != nil {
			return nil, err
		}
		edges.nodes = append(edges.nodes, n)
	}
	envoys.held, edges.held = envoys.nodes[:2], edges.nodes
	for _, p := range []*pack{envoys, edges} {
		addrs := map[string]string{}
		for _, n := range p.nodes {
			if err := n.Ready(ctx); err != nil {
				return nil, err
			}
			addrs[n.name] = n.addr
		}
		p.traffic = traffic.New(traffic.Config{
			Nodes: addrs, Hosts: s.names, Roots: s.ca.Pool(), Lifetime: lifetime,
			Workers: 2, Hops: 60, Pause: 2 * time.Millisecond,
		})
		s.packs, s.nodes = append(s.packs, p), append(s.nodes, p.nodes...)
	}
	return s, nil
}

func (s *stage) certificates() (err error) {
	if s.ca, err = fleet.NewCA("Lockstep demo CA"); err != nil {
		return err
	}
	for i := range hosts {
		name := fmt.Sprintf("host-%02d.demo.example", i+1)
		s.names = append(s.names, name)
		if err := s.renew(name); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(s.dir, "ca.pem"), s.ca.PEM(), 0o644)
}

// renew writes a new certificate of the same issuer into the directory.
func (s *stage) renew(host string) error {
	pair, err := s.ca.Issue(fleet.Leaf{Names: []string{host}})
	if err != nil {
		return err
	}
	return fleet.WriteHost(filepath.Join(s.dir, "certs"), host, pair)
}

// envoy starts one with the bootstrap that the CLI writes. The CLI finds lockstepd's socket.
func (s *stage) envoy(ctx context.Context, name string) (*node, error) {
	n, err := place(name)
	if err != nil {
		return nil, err
	}
	args := []string{"--data-dir", s.plane.Data, "bootstrap", "envoy", "--node", name, "--admin", n.admin,
		"--listen", n.addr, "--upstream", s.upstream.Addr, "--ticket-lifetime", lifetime.String()}
	for _, h := range s.names {
		args = append(args, "--host", h)
	}
	config, err := s.fleet.Run(ctx, s.cli, args...)
	if err != nil {
		return nil, err
	}
	n.Process, err = s.fleet.Envoy(name, config, n.admin)
	return n, err
}

// edge starts a lockstep-edge. It is told no host: certificates are loaded as clients ask for them.
func (s *stage) edge(bin, name string) (*node, error) {
	n, err := place(name)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("node: %s\nxds: %q\nadmin_listen: %q\nticket_lifetime: %s\naccess_log: \"off\"\n"+
		"listeners:\n- address: %q\n  scope: default\n"+
		"routes:\n- host: \"*\"\n  path: /\n  upstreams: [\"http://%s\"]\n", name, s.plane.XDS,
		n.admin, lifetime, n.addr, s.upstream.Addr)
	n.Process, err = s.fleet.Edge(bin, name, []byte(config), n.admin)
	return n, err
}

func place(name string) (*node, error) {
	n := &node{name: name}
	for _, addr := range []*string{&n.addr, &n.admin} {
		var err error
		if *addr, err = fleet.Addr(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (s *stage) startTraffic(ctx context.Context) error {
	ctx, s.halt = context.WithCancel(ctx)
	for _, p := range s.packs {
		s.busy.Go(func() { p.traffic.Run(ctx) })
		held := map[string]string{}
		for _, n := range p.held {
			held[n.name] = n.addr
		}
		var err error
		if p.open, err = traffic.Hold(ctx, held, s.names[0], s.ca.Pool()); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) stopTraffic() {
	if s.halt == nil {
		return
	}
	for _, p := range s.packs {
		if p.open != nil {
			p.cut, p.beats = p.open.Cut()
		}
	}
	s.halt()
	s.busy.Wait()
	for _, p := range s.packs {
		if p.open != nil {
			p.open.Close()
		}
	}
	s.halt = nil
}

func (s *stage) close() {
	s.stopTraffic()
	if s.fleet != nil {
		s.fleet.Close()
	}
	if s.upstream != nil {
		s.upstream.Close()
	}
	os.RemoveAll(s.dir)
}

func (s *stage) say(format string, a ...any) {
	fmt.Printf("%6.2fs  %s\n", time.Since(s.begin).Seconds(), fmt.Sprintf(format, a...))
}

// lockstep runs the CLI as an operator would.
func (s *stage) lockstep(ctx context.Context, args ...string) error {
	_, err := s.fleet.Run(ctx, s.cli, append([]string{"--data-dir", s.plane.Data}, args...)...)
	return err
}

// line of a scope's history, as the admin API shows it.
type line struct {
	What       string   `json:"what"`
	Rotation   uint64   `json:"rotation"`
	Key        string   `json:"key"`
	Nodes      int      `json:"nodes"`
	Seconds    float64  `json:"seconds"`
	LeftBehind []string `json:"left_behind"`
}

func (s *stage) history(ctx context.Context) (lines []line, err error) {
	var h struct{ Lines []line }
	return h.Lines, s.get(ctx, "/v1/scopes/default/history", &h)
}

// keys of the ring, by role.
func (s *stage) keys(ctx context.Context) (ids []string, encrypts string, err error) {
	var st struct {
		Scopes []struct {
			Scope string
			Keys  []struct{ ID, Role string }
		}
	}
	if err := s.get(ctx, "/v1/status", &st); err != nil {
		return nil, "", err
	}
	for _, sc := range st.Scopes {
		for _, k := range sc.Keys {
			ids = append(ids, k.ID)
			if sc.Scope == "default" && k.Role == "encrypt" {
				encrypts = k.ID
			}
		}
	}
	return ids, encrypts, nil
}

func (s *stage) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.plane.Admin+path, nil)
	if err != nil {
		return err
	}
	if err := s.plane.Authorize(req); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// rotateOverNATS has another process send the request.
func (s *stage) rotateOverNATS(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(s.plane.Data, "nats.token"))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-nats-request", "default")
	cmd.Env = append(os.Environ(), "NATS_URL=nats://"+string(token[:len(token)-1])+"@"+s.plane.NATS)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("the process that requests a rotation over NATS: %w: %s", err, out)
	}
	s.say("over NATS, from process %s: %s", strconv.Itoa(cmd.Process.Pid), out)
	return nil
}

func requestRotation(scope, url string) error {
	conn, err := nats.Connect(url, nats.Timeout(2*time.Second))
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := conn.Request("lockstep.rotate."+scope, nil, 5*time.Second)
	if err != nil {
		return err
	}
	if code := reply.Header.Get("Nats-Service-Error-Code"); code != "" {
		return fmt.Errorf("%s: %s", code, reply.Header.Get("Nats-Service-Error"))
	}
	fmt.Printf("%s", reply.Data)
	return nil
}
