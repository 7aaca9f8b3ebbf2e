package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/client"
)

// faultPolicy is the configuration of the replicas that have faults. The lease is short, so that a
// node is gone soon.
const faultPolicy = `refresh: 1s
scopes:
  default: {period: 2h, ticket_lifetime: 20s, node_lease: 6s}
`

// stage is two replicas on one Redis, with real Envoys.
type stage struct {
	fleet    *fleet.Fleet
	bin      string
	redis    *fleet.RedisServer
	planes   []*fleet.Lockstepd
	envoys   []*envoy
	hosts    []string // hosts are in the directory of certificates, which both replicas watch.
	certs    string
	ca       *fleet.CA
	upstream *fleet.Upstream
	refusers int
}

type envoy struct {
	*fleet.Process
	name string
}

// newStage starts everything, and waits until it serves.
func newStage(ctx context.Context, f *fleet.Fleet, bin string, envoys int) (s *stage, err error) {
	s = &stage{fleet: f, bin: bin, certs: filepath.Join(f.Dir(), "certs")}
	if s.ca, err = fleet.NewCA("Soak CA 0"); err != nil {
		return s, err
	}
	if s.upstream, err = fleet.NewUpstream(); err != nil {
		return s, err
	}
	for i := range 3 {
		s.hosts = append(s.hosts, fmt.Sprintf("host-%d.example", i+1))
		if err := s.renew(s.hosts[i], s.ca); err != nil {
			return s, err
		}
	}
	if s.redis, err = f.Redis(ctx, "redis"); err != nil {
		return s, err
	}
	events, err := f.NATS(ctx, "events", 1)
	if err != nil {
		return s, err
	}
	config := filepath.Join(f.Dir(), "lockstep.yaml")
	if err := os.WriteFile(config, []byte(faultPolicy), 0o600); err != nil {
		return s, err
	}
	for i := range 2 {
		p, err := f.Lockstepd(fmt.Sprintf("replica-%d", i+1), fleet.Lockstepd{
			Bin: bin, Certs: s.certs, NATS: "-", Args: []string{
				"--config", config, "--store", "redis://" + s.redis.Addr, "--events", "nats://" + events.Addrs(),
				"--kek", filepath.Join(f.Dir(), "sealing.key"),
			},
		})
		if err != nil {
			return s, err
		}
		if err := p.Ready(ctx); err != nil {
			return s, err
		}
		s.planes = append(s.planes, p)
	}
	for i := range envoys {
		if err := s.envoy(ctx, fmt.Sprintf("edge-%d", i+1)); err != nil {
			return s, err
		}
	}
	for _, e := range s.envoys {
		if err := e.Ready(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *stage) close() {
	if s.upstream != nil {
		s.upstream.Close()
	}
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
		"--ticket-lifetime", "20s",
	}
	for _, p := range s.planes {
		args = append(args, "--xds", p.XDS)
	}
	for _, h := range s.hosts {
		args = append(args, "--host", h)
	}
	config, err := s.fleet.Run(ctx, filepath.Join(s.bin, "lockstep"), args...)
	if err != nil {
		return err
	}
	p, err := s.fleet.Envoy(name, config, admin)
	s.envoys = append(s.envoys, &envoy{p, name})
	return err
}

// renew puts a new certificate into the directory.
func (s *stage) renew(host string, ca *fleet.CA) error {
	p, err := ca.Issue(fleet.Leaf{Names: []string{host}})
	if err != nil {
		return err
	}
	return fleet.WriteHost(s.certs, host, p)
}

// lockstep runs the CLI against a replica. Data comes with exit code 3, too.
func (s *stage) lockstep(ctx context.Context, p *fleet.Lockstepd, args ...string) ([]byte, error) {
	args = append([]string{"--data-dir", p.Data}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "lockstep"), args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("lockstep %v: %w: %s", args, err, errs.String())
	}
	return out, err
}

// event is one of `lockstep events -o json`.
type event struct {
	At                                     time.Time
	Kind, Node, Name, Text, Replica, Phase string
	Version                                string
	Rotation                               uint64
}

// events asks a replica for all that happened since.
func (s *stage) events(ctx context.Context, p *fleet.Lockstepd, since time.Time) (all []event, err error) {
	out, err := s.lockstep(ctx, p, "events", "--since", since.Format(time.RFC3339Nano), "-o", "json")
	if err != nil {
		return nil, err
	}
	var said struct {
		Events   []event
		Replicas []string
		Silent   []string
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return nil, err
	}
	if len(said.Replicas) != len(s.planes) || len(said.Silent) > 0 {
		err = fmt.Errorf("events of %v, silent %v", said.Replicas, said.Silent)
	}
	return said.Events, err
}

// refuses connects a node to a replica that refuses a secret, for as long as f takes.
func (s *stage) refuses(ctx context.Context, p *fleet.Lockstepd, node, secret string, f func() error) error {
	conn, err := grpc.NewClient(p.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	c := client.New(client.Config{
		Conn: conn, Node: &corev3.Node{Id: node, UserAgentName: "soak"}, Type: sds.TypeURL,
		Method: secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName,
		Apply: func(got []*xds.Resource, _ []string) error {
			if len(got) > 0 {
				return errors.New("this node refuses for the test")
			}
			return nil
		},
	})
	c.Subscribe(secret)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(ctx) }() // it ends with ctx
	err = f()
	cancel()
	<-ended
	return err
}
