package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

const (
	scope = "default"
	ring  = "tickets/" + scope
	// lifetime is that of a ticket. It is longer than most faults, so that tickets of before one
	// are live after it.
	lifetime = 2 * time.Minute
)

// stage is two replicas on one Redis and one NATS server, with real Envoys. Every connection to
// either of them, and of an Envoy to a replica, goes over a link of its own.
type stage struct {
	fleet  *fleet.Fleet
	bin    string
	redis  *fleet.RedisServer
	nats   *fleet.NATS
	planes []*plane
	envoys []*envoy
	links  []*link

	hosts    []string // hosts are in the directory of certificates, which both replicas watch.
	certs    string
	leaves   map[string][]byte    // leaves are the newest good certificates by host (DER).
	issuers  map[string]*fleet.CA // issuers are those of the certificates, by host.
	cas      int
	roots    *x509.CertPool
	upstream *fleet.Upstream

	config, policy string // config and policy are files.
	versions       int    // versions counts the texts of them, so that each differs.
	refusers       int

	clients *traffic.Traffic
	held    []ticket
}

// plane is a replica with its links.
type plane struct {
	*fleet.Lockstepd
	store, events *link
}

// envoy is an Envoy with its links to the replicas, in their order.
type envoy struct {
	*fleet.Process
	name, listen string
	to           []*link
}

// newStage starts everything, and waits until it serves.
func newStage(ctx context.Context, f *fleet.Fleet, bin string, envoys int) (s *stage, err error) {
	s = &stage{
		fleet: f, bin: bin, certs: filepath.Join(f.Dir(), "certs"), leaves: map[string][]byte{},
		issuers: map[string]*fleet.CA{},
		roots:   x509.NewCertPool(), config: filepath.Join(f.Dir(), "lockstep.yaml"),
		policy: filepath.Join(f.Dir(), "policy.yaml"),
	}
	first, err := s.issuer()
	if err != nil {
		return s, err
	}
	if s.upstream, err = fleet.NewUpstream(); err != nil {
		return s, err
	}
	for i := range 5 {
		s.hosts = append(s.hosts, fmt.Sprintf("host-%d.example", i+1))
		s.issuers[s.hosts[i]] = first
		if err := s.renew(s.hosts[i], 0); err != nil {
			return s, err
		}
	}
	if s.redis, err = f.Redis(ctx, "redis"); err != nil {
		return s, err
	}
	if s.nats, err = f.NATS(ctx, "events", 1); err != nil {
		return s, err
	}
	if err := errors.Join(s.newConfig(), s.newPolicy()); err != nil {
		return s, err
	}
	for i := range 2 {
		if err := s.plane(ctx, fmt.Sprintf("replica-%d", i+1)); err != nil {
			return s, err
		}
	}
	nodes := map[string]string{}
	for i := range envoys {
		if err := s.envoy(ctx, fmt.Sprintf("edge-%d", i+1)); err != nil {
			return s, err
		}
		nodes[s.envoys[i].name] = s.envoys[i].listen
	}
	for _, e := range s.envoys {
		if err := e.Ready(ctx); err != nil {
			return s, err
		}
	}
	s.clients = traffic.New(traffic.Config{Nodes: nodes, Hosts: s.hosts, Roots: s.roots, Lifetime: lifetime})
	return s, nil
}

func (s *stage) close() {
	for _, l := range s.links {
		l.close()
	}
	if s.upstream != nil {
		s.upstream.Close()
	}
}

// link starts one that listens on addr.
func (s *stage) link(addr, to string) (*link, error) {
	l, err := newLink(addr, to)
	if err == nil {
		s.links = append(s.links, l)
	}
	return l, err
}

// tcpLink starts one on a new address.
func (s *stage) tcpLink(to string) (addr string, l *link, err error) {
	if addr, err = fleet.Addr(); err != nil {
		return addr, nil, err
	}
	l, err = s.link(addr, to)
	return addr, l, err
}

// plane starts a replica.
func (s *stage) plane(ctx context.Context, name string) error {
	store, toStore, err1 := s.tcpLink(s.redis.Addr)
	events, toEvents, err2 := s.tcpLink(s.nats.Addrs())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	p, err := s.fleet.Lockstepd(name, fleet.Lockstepd{
		Bin: s.bin, Certs: s.certs, NATS: "-", Args: []string{
			"--config", s.config, "--policy", s.policy, "--store", "redis://" + store, "--events", "nats://" + events,
			"--kek", filepath.Join(s.fleet.Dir(), "sealing.key"),
		},
	})
	if err != nil {
		return err
	}
	s.planes = append(s.planes, &plane{p, toStore, toEvents})
	return p.Ready(ctx)
}

// id is the name of a replica, from its data directory.
func (p *plane) id() string {
	b, err := os.ReadFile(filepath.Join(p.Data, "replica"))
	if err != nil {
		return err.Error() // which no event has
	}
	return strings.TrimSpace(string(b))
}

// envoy starts an Envoy that knows both replicas.
func (s *stage) envoy(ctx context.Context, name string) error {
	listen, err1 := fleet.Addr()
	admin, err2 := fleet.Addr()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	args := []string{
		"bootstrap", "envoy", "--node", name, "--admin", admin, "--listen", listen, "--upstream", s.upstream.Addr,
		"--ticket-lifetime", lifetime.String(),
	}
	e := &envoy{name: name, listen: listen}
	for _, p := range s.planes {
		addr, err := s.fleet.Socket()
		if err != nil {
			return err
		}
		l, err := s.link(addr, p.XDS)
		if err != nil {
			return err
		}
		e.to, args = append(e.to, l), append(args, "--xds", addr)
	}
	for _, h := range s.hosts {
		args = append(args, "--host", h)
	}
	config, err := s.fleet.Run(ctx, filepath.Join(s.bin, "lockstep"), args...)
	if err != nil {
		return err
	}
	e.Process, err = s.fleet.Envoy(name, config, admin)
	s.envoys = append(s.envoys, e)
	return err
}

// issuer makes another CA.
func (s *stage) issuer() (*fleet.CA, error) {
	s.cas++
	ca, err := fleet.NewCA(fmt.Sprintf("Soak CA %d", s.cas))
	if err == nil {
		s.roots.AppendCertsFromPEM(ca.PEM())
	}
	return ca, err
}

// renew puts a new certificate of the same issuer into the directory, which is valid for so long; 0
// stands for a day.
func (s *stage) renew(host string, valid time.Duration) error {
	p, err := s.issuers[host].Issue(fleet.Leaf{Names: []string{host}, Valid: valid})
	if err != nil {
		return err
	}
	block, _ := pem.Decode(p.Chain)
	s.leaves[host] = block.Bytes
	return fleet.WriteHost(s.certs, host, p)
}

// newConfig writes the configuration of the replicas with another setting. The lease is short, so
// that a node is gone soon.
func (s *stage) newConfig() error {
	s.versions++
	return os.WriteFile(s.config, fmt.Appendf(nil, "refresh: 1s\nnode_names: %d\nscopes:\n"+
		"  %s: {period: 2h, ticket_lifetime: %s, node_lease: 6s}\n", 1000+s.versions, scope, lifetime), 0o600)
}

// newPolicy writes a policy that differs from those before in its text.
func (s *stage) newPolicy() error {
	s.versions++
	return replace(s.policy, fmt.Appendf(nil, "# %d\nrules:\n- identity: \"unix:uid=%d\"\n  scopes: [%s]\n"+
		"  names: [\"*\"]\n  nodes: [\"edge-*\", \"refuser-*\"]\n", s.versions, os.Getuid(), scope))
}

// replace puts a file in the place of another at once.
func replace(file string, text []byte) error {
	return errors.Join(os.WriteFile(file+".new", text, 0o600), os.Rename(file+".new", file))
}
