package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
)

const oneHost = "n000000.bench.example"

// field is the edge and its peers, which take turns.
type field struct {
	*stand
	all     []*peer // the edge first
	missing []string
}

func (b *bench) field(ctx context.Context) (*field, error) {
	data, err := b.data(ctx, 1)
	if err != nil {
		return nil, err
	}
	s, err := b.stand(ctx, data)
	if err != nil {
		return nil, err
	}
	f := &field{stand: s}
	edge, err := s.edge(ctx, "")
	if err != nil {
		return f, err
	}
	peers, missing, err := b.peers(ctx, s.upstream)
	f.all, f.missing = append([]*peer{edge}, peers...), missing
	return f, err
}

// notMeasured are rows for the peers that are not there.
func (f *field) notMeasured(what string) (rows []row) {
	for _, m := range f.missing {
		rows = append(rows, row{what: what, note: "not measured: " + m})
	}
	return rows
}

func versioned(p *peer) string { return strings.TrimSpace(p.name + " " + p.version) }

// edgeHandshakes is TLS 1.3 with X25519 and a P-256 certificate, one connection for each.
func edgeHandshakes(ctx context.Context, b *bench) (rows []row, err error) {
	f, err := b.field(ctx)
	if err != nil {
		return nil, err
	}
	defer f.clients.close()
	for _, kind := range []struct {
		name   string
		resume bool
	}{{"full", false}, {"resumed", true}} {
		c := visit.Command{Op: "shake", Pattern: oneHost, Count: b.size(4000, 200), Parallel: 8, Resume: kind.resume}
		cpu := map[*peer][]float64{}
		for round := range pairs + 1 { // the first warms up
			for i := range f.all {
				p := f.all[(i+round)%len(f.all)]
				each, err := f.each(ctx, p, c)
				if err != nil {
					return rows, err
				}
				if round > 0 {
					cpu[p] = append(cpu[p], each)
				}
			}
		}
		for _, p := range f.all[1:] {
			l := map[string]limit{"Caddy": atMost(0.90), "bare net/http": atMost(1.08)}[p.name]
			rows = append(rows, paired(fmt.Sprintf("lockstep-edge, CPU per %s handshake (TLS 1.3), against %s", kind.name, versioned(p)), cpu[f.all[0]], cpu[p], l, inUS))
		}
		rows = append(rows, f.notMeasured("lockstep-edge, CPU per "+kind.name+" handshake")...)
	}
	return rows, nil
}
