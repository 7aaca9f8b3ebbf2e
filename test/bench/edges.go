package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// proxy starts a lockstep-edge at p, on its core, in front of upstream; more is YAML. It has no access log.
func (b *bench) proxy(ctx context.Context, p *plane, upstream, more string) (*peer, error) {
	e := &peer{name: b.fresh("lockstep-edge")}
	admin, err := fleet.Addr()
	if err != nil {
		return nil, err
	}
	if e.addr, err = fleet.Addr(); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("node: %s\nxds: %q\nadmin_listen: %q\naccess_log: \"off\"\nlisteners: [{address: %q}]\nroutes: [{upstreams: [\"http://%s\"]}]\n%s",
		e.name, p.xds, admin, e.addr, upstream, more)
	file := filepath.Join(b.fleet.Dir(), e.name+".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	e.Process, err = b.fleet.Start(fleet.Command{
		Name: e.name, Path: "taskset", Args: []string{"-c", serverCore, filepath.Join(b.bin, "lockstep-edge"), "--config", file}, Env: oneCore,
		Ready: "http://" + admin + "/readyz",
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return e, e.Ready(ctx)
}

// stand is what the edge's lines have in common: a control plane with certificates, clients, and an upstream.
type stand struct {
	*bench
	plane    *plane
	clients  *visitors
	upstream string
}

// stand starts it; the caller closes the clients.
func (b *bench) stand(ctx context.Context, data string, more ...string) (s *stand, err error) {
	s = &stand{bench: b}
	if s.plane, err = b.lockstepd(ctx, fleet.Lockstepd{Bin: b.bin, Data: data, Args: more}); err != nil {
		return nil, err
	}
	if s.upstream, err = b.upstream(); err != nil {
		return nil, err
	}
	s.clients, err = b.visitors()
	return s, err
}

// edge starts a lockstep-edge.
func (s *stand) edge(ctx context.Context, more string) (*peer, error) {
	return s.proxy(ctx, s.plane, s.upstream, more)
}

// cost is the CPU of p, in seconds, for what clients do, until it rests again.
func (s *stand) cost(ctx context.Context, p *peer, c visit.Command) (float64, visit.Reply, error) {
	c.Addr = p.addr
	before, err := cpuOf(p.PID())
	if err != nil {
		return 0, visit.Reply{}, fmt.Errorf("%s: %w", p.name, err)
	}
	r, err := s.clients.do(c)
	if err != nil {
		return 0, r, fmt.Errorf("%s: %w; its log ends:\n%s", p.name, err, p.LogTail(5))
	}
	if err := sleep(ctx, 50*time.Millisecond); err != nil {
		return 0, r, err
	}
	after, err := cpuOf(p.PID())
	return (after - before).Seconds(), r, err
}

// each is cost by handshake.
func (s *stand) each(ctx context.Context, p *peer, c visit.Command) (float64, error) {
	cpu, _, err := s.cost(ctx, p, c)
	return cpu / float64(c.Count), err
}

// preload is YAML that preloads so many certificates.
func preload(count int) string {
	var all []string
	for i := range count {
		all = append(all, certName(i))
	}
	return "preload: [" + strings.Join(all, ", ") + "]\n"
}
