package daemon

import (
	"context"

	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// newProver tries the nodes that were in doubt by real handshakes.
func (d *Daemon) newProver() *sds.Prover {
	prover := probe.NewProver()
	return sds.NewProver(sds.ProverConfig{
		Streams: func(ctx context.Context, q server.Query) []server.StreamView { return d.xds.Streams(ctx, q) },
		Ring:    d.rolls.Current,
		Refers:  lds.TypeURL, Listener: d.listeners.Of,
		Handshakes: func(ctx context.Context, t sds.ProofTarget) sds.ProofResult {
			s := probe.Subject{Addr: t.Addr, Keys: t.Keys}
			for _, h := range t.Hosts {
				s.Hosts = append(s.Hosts, probe.Host(h))
			}
			p := prover.Prove(ctx, s)
			return sds.ProofResult{
				Proved: p.Finding == probe.Proved, Doubt: p.Finding == probe.Disproved, Words: p.Words, At: p.At,
			}
		},
		Log: d.log,
	})
}
