package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// storm is a fleet that connects all at once over mTLS, to a server that has just started.
func storm(ctx context.Context, b *bench) ([]row, error) {
	nodes := b.size(2000, 200)
	files, err := b.mTLS()
	if err != nil {
		return nil, err
	}
	var times, peaks [2][]float64
	for range b.size(5, 2) {
		ours, err := b.ours(ctx, "", files)
		if err != nil {
			return nil, err
		}
		took, peak, err := b.burst(ours, nodes, files)
		if err != nil {
			return nil, err
		}
		times[0], peaks[0] = append(times[0], took.Seconds()), append(peaks[0], float64(peak))
		stock, err := b.stock(ctx, 0, files)
		if err != nil {
			return nil, err
		}
		if took, peak, err = b.burst(stock, nodes, files); err != nil {
			return nil, err
		}
		times[1], peaks[1] = append(times[1], took.Seconds()), append(peaks[1], float64(peak))
	}
	return []row{
		compare(fmt.Sprintf("%d nodes connect at once over mTLS: until all are served", nodes), times[0], times[1], atMost(1.15), inMS),
		compare("— peak memory of the server", peaks[0], peaks[1], atMost(0.85), inMB),
	}, nil
}

// burst connects the nodes to p and kills it.
func (b *bench) burst(p *plane, nodes int, files *mTLS) (took time.Duration, peak int64, err error) {
	defer p.proc.Kill()
	c, err := b.crowd()
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	if err := resetPeak(p.proc.PID()); err != nil {
		return 0, 0, err
	}
	r, err := c.do(swarm.Command{Op: "connect", Set: p.name, Addr: p.xds, Nodes: nodes, Names: []string{ring}, TLS: files.client})
	if err != nil {
		return 0, 0, fmt.Errorf("nodes of %s: %w", p.name, err)
	}
	peak, err = memoryOf(p.proc.PID(), "VmHWM")
	return time.Duration(r.Last - r.Start), peak, err
}

// mTLS is the files of the servers and those of the nodes.
type mTLS struct{ server, client *swarm.Files }

func (b *bench) mTLS() (*mTLS, error) {
	dir := filepath.Join(b.fleet.Dir(), b.fresh("tls"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var m mTLS
	for _, f := range []struct {
		name string
		leaf fleet.Leaf
		into **swarm.Files
	}{
		{"server", fleet.Leaf{Names: []string{"localhost"}, IPs: []string{"127.0.0.1"}}, &m.server},
		{"client", fleet.Leaf{URIs: []string{"spiffe://bench.example/node"}}, &m.client},
	} {
		pair, err := b.ca.Issue(f.leaf)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, f.name)
		*f.into = &swarm.Files{Cert: path + ".pem", Key: path + ".key", CA: path + "-ca.pem"}
		for path, content := range map[string][]byte{(*f.into).Cert: pair.Chain, (*f.into).Key: pair.Key, (*f.into).CA: b.ca.PEM()} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				return nil, err
			}
		}
	}
	return &m, nil
}
