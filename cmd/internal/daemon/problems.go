package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/denied"
	"github.com/lockstep-tls/lockstep/cmd/internal/live"
	"github.com/lockstep-tls/lockstep/cmd/internal/loss"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

// openProblems makes the list of what is not well.
func (d *Daemon) openProblems() *admin.Problems {
	record := d.rec.Watcher(d.data.File("told.mark"), func(code, where string) { d.problems.Over(code, where) })
	return admin.NewProblems(admin.ProblemsConfig{
		Ledger: d.ledger(), Catalog: d.certs, Dir: d.dir, Custody: d.custody, Vault: d.data.Vault, Audit: d.audit,
		Own: d.ownProblems, Acks: &problems.Acks{Store: d.store}, File: d.data.File("problems.json"), Log: d.log,
		Lost:  func(ctx context.Context) []api.Problem { return loss.Problems(ctx, d.lossy) },
		Every: 2 * d.cfg.Refresh,
		Look: func(all []api.Problem) {
			var peers []string
			for _, p := range d.rolls.Peers() {
				peers = append(peers, p.Replica)
			}
			record(all, peers)
		},
	})
}

// ownProblems are those of what package admin does not see, in no order.
func (d *Daemon) ownProblems() (out []api.Problem) {
	if err := d.bus.Down(); err != nil {
		out = append(out, problems.New(problems.EventsDown, "",
			fmt.Sprintf("events are down, changes reach other replicas within %s: %v", d.cfg.Refresh, err)))
	}
	if d.cfg.OpenToAll() {
		out = append(out, problems.New(problems.XDSOpen, "", fmt.Sprintf(
			"xds_open: whoever can connect to %s gets every private key and every ticket key", d.cfg.XDSListen)))
	}
	for _, err := range d.policy.Problems() {
		out = append(out, problems.Of("", err))
	}
	now := denied.Now{Policy: d.policy.Policy(), Denials: d.denials, Streams: d.xds, Has: d.rolls.Has}
	out = append(out, now.Problems(time.Now())...)
	for _, err := range d.mtls.Problems(time.Now()) {
		out = append(out, problems.Of("", err))
	}
	out = append(out, live.Problems(d.reload)...)
	out = append(append(out, d.nodes.Problems()...), d.replicas.Problems()...)
	out = append(out, d.certlog.Problems()...)
	out = append(out, d.rec.Problems()...)
	return append(out, d.listeners.Problems()...)
}
