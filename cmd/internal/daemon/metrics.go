package daemon

import (
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
		Policy: d.policy, Denials: d.denials, Audit: d.audit, MTLS: d.mtls, Failed: d.failed,
		Happened: d.seen.Counts, LeftBehind: d.seen.Behind, Problems: d.problems.Here, Gone: d.nodes.Count,
		Durations: d.durations, Replicas: d.replicas.Versions,
	}
}
