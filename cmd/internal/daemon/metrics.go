package daemon

import (
	"sync/atomic"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/metrics"
)

// ledger is what is known of the secrets on the streams.
func (d *Daemon) ledger() admin.Ledger {
	return admin.Ledger{Streams: d.xds, Table: d.table, Rollouts: d.rolls, Prover: d.prover}
}

func (d *Daemon) metrics() metrics.Config {
	return metrics.Config{
		Ledger: d.ledger(), Catalog: d.certs, Dir: d.dir, Custody: d.custody, Bus: d.bus,
		Policy: d.policy, Denials: d.denials, Audit: d.audit,
		Happened:   func() []uint64 { return loadAll(d.seen.kinds[:]) },
		LeftBehind: d.seen.behind, Problems: d.problems.Here,
		Durations: d.durations,
	}
}

func loadAll(counts []atomic.Uint64) (out []uint64) {
	for i := range counts {
		out = append(out, counts[i].Load())
	}
	return out
}
