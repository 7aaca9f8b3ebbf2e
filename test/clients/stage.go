package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

const host = "shop.example"

// stage is a fleet of two nodes of each kind, which share one ring.
type stage struct {
	*fleet.Fleet
	bin, cli string
	ca       string // ca is the file with the CA.
	host     fleet.Pair
	upstream *fleet.Upstream
	plane    *fleet.Lockstepd
	kinds    [2]kind
}

// kind is a program, and the addresses of its two nodes.
type kind struct {
	name  string
	nodes [2]string
}

const (
	envoys = 0
	edges  = 1
)

func newStage(ctx context.Context, dir string) (_ *stage, err error) {
	s := &stage{ca: filepath.Join(dir, "ca.pem"), kinds: [2]kind{{name: "Envoy"}, {name: "lockstep-edge"}}}
	if s.Fleet, err = fleet.New(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.bin, err = fleet.Build(ctx, "lockstepd", "lockstep", "lockstep-edge"); err != nil {
		return nil, err
	}
	s.cli = filepath.Join(s.bin, "lockstep")
	ca, err := fleet.NewCA("CA of the clients")
	if err != nil {
		return nil, err
	}
	if s.host, err = ca.Issue(fleet.Leaf{Names: []string{host}}); err != nil {
		return nil, err
	}
	if err := fleet.WriteHost(filepath.Join(dir, "certs"), host, s.host); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.ca, ca.PEM(), 0o644); err != nil {
		return nil, err
	}
	if s.upstream, err = fleet.NewUpstream(); err != nil {
		return nil, err
	}
	s.plane, err = s.Lockstepd("lockstepd", fleet.Lockstepd{Bin: s.bin, Certs: filepath.Join(dir, "certs"), XDS: "-"})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.plane.Ready(ctx); err != nil {
		return nil, err
	}
	for k := range s.kinds {
		for i := range s.kinds[k].nodes {
			if s.kinds[k].nodes[i], err = s.node(ctx, k, i); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// node starts a node with the configuration that the CLI writes.
func (s *stage) node(ctx context.Context, kind, i int) (at string, err error) {
	at, err = fleet.Addr()
	if err != nil {
		return "", err
	}
	admin, err := fleet.Addr()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%d", [...]string{"envoy", "edge"}[kind], i+1)
	args := []string{"--data-dir", s.plane.Data, "bootstrap", [...]string{"envoy", "edge"}[kind], "--node", name,
		"--admin", admin, "--listen", at, "--upstream", s.upstream.Addr}
	if kind == envoys {
		args = append(args, "--host", host)
	} else {
		args = append(args, "--edge-data", "")
	}
	config, err := s.Run(ctx, s.cli, args...)
	if err != nil {
		return "", err
	}
	var p *fleet.Process
	if kind == envoys {
		p, err = s.Envoy(name, config, admin)
	} else {
		p, err = s.Edge(s.bin, name, config, admin)
	}
	if err != nil {
		return "", err
	}
	return at, p.Ready(ctx)
}

// rotate waits until the new key encrypts at all nodes.
func (s *stage) rotate(ctx context.Context) error {
	_, err := s.Run(ctx, s.cli, "--data-dir", s.plane.Data, "rotate", "--wait")
	return err
}

func (s *stage) close() {
	s.Close()
	if s.upstream != nil {
		s.upstream.Close()
	}
}
