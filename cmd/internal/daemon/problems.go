package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
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
		Every: min(2*d.cfg.Refresh, 30*time.Second),
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
	out = append(out, d.deniedNow(time.Now())...)
	for _, err := range d.mtls.Problems(time.Now()) {
		out = append(out, problems.Of("", err))
	}
	out = append(out, live.Problems(d.reload)...)
	out = append(append(out, d.nodes.Problems()...), d.replicas.Problems()...)
	if d.certlog != nil {
		out = append(out, d.certlog.Problems()...)
	}
	out = append(out, d.rec.Problems()...)
	for _, scope := range d.rolls.Scopes() {
		if n := d.rolls.Crowded(scope); n > 0 {
			p := problems.New(problems.IDsCrowded, scope, fmt.Sprintf("scope %s: %d nodes get no ring for now, "+
				"since too many ids share their identity", scope, n))
			p.Count = n
			out = append(out, p)
		}
	}
	return append(out, d.listeners.Problems()...)
}
