package daemon

import (
	"context"
	"fmt"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/loss"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

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
	if d.lossy != nil {
		out = append(out, loss.Problems(context.Background(), d.lossy)...)
	}
	for _, p := range d.reload.Problems() {
		out = append(out, problems.New(p.Code, "", p.Text))
	}
	return append(out, d.listeners.Problems()...)
}
