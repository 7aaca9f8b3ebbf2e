package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/seal/custody"
)

// lookEvery is how often a replica looks for problems that nobody asks about. It costs about as
// much as a scrape.
const lookEvery = 30 * time.Second

// Problems finds what is not well at this replica. Status and the metrics read the same list.
type Problems struct {
	Ledger  Ledger
	Catalog *catalog.Catalog
	Dir     *dir.Dir // Dir is nil without --certs.
	Custody *custody.Custodian
	Vault   *stores.Vault
	Audit   *audit.Log
	Own     func() []api.Problem // Own are those of what this package does not see.

	Acks *problems.Acks

	memory problems.Memory
}

// Here returns the problems of this replica and of its nodes, the most severe first.
func (p *Problems) Here(ctx context.Context) []api.Problem {
	return p.with(ctx, p.Ledger.here(ctx, ""))
}

// with returns the problems of this replica, and those of nodes that troubles say.
func (p *Problems) with(ctx context.Context, troubles api.Troubles) []api.Problem {
	out := p.Own()
	for _, t := range troubles.Troubles {
		if t.State != stateProved {
			out = append(out, problemOf(t))
		}
	}
	if n := troubles.More; n > 0 {
		more := problems.New(problems.SecretsUnlisted, "",
			fmt.Sprintf("%d more secrets are refused or missing on some nodes", n))
		more.Count = n
		out = append(out, more)
	}
	out = append(out, ofNodeCertificates(troubles.Certificates, time.Now())...)
	for _, name := range p.Ledger.Rollouts.Scopes() {
		if st, err := p.Ledger.Rollouts.Status(name); err == nil {
			out = append(out, ofScope(name, st)...)
		}
	}
	out = append(out, p.ofCertificates()...)
	out = append(out, p.ofReplica()...)
	out = append(out, p.ofSeal()...)
	now := time.Now()
	p.memory.Date(out, now)
	p.Acks.Apply(ctx, out, now)
	problems.Sort(out)
	return out
}

// Run looks now and then until ctx ends, so that it is known since when a problem stands that
// nobody asked about.
func (p *Problems) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		p.Here(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// acknowledgeFor bounds how long an operator may know about a problem.
const acknowledgeFor = 90 * 24 * time.Hour

// ack acknowledges the problems of a code that stand now. It changes no key, so a line in the log
// is enough.
func (a *admin) ack(r *http.Request) (struct{}, error) {
	var req api.AckRequest
	if err := body(r, &req); err != nil {
		return struct{}{}, err
	}
	d := time.Duration(req.Seconds * float64(time.Second))
	if d < 0 || d > acknowledgeFor {
		return struct{}{}, &api.Error{Message: "an acknowledgement is for a time of 0 to 90 days", Code: api.Usage}
	}
	code, p, now := r.PathValue("code"), a.cfg.Problems, time.Now()
	if _, known := problems.Find(code); !known {
		return struct{}{}, &api.Error{
			Message: fmt.Sprintf("%q is no code of a problem: lockstep status shows them", code), Code: api.NotFound,
		}
	}
	who := claimed(r, req.By)
	if d == 0 {
		a.cfg.Log.Info("a problem is no longer acknowledged", "code", code, "by", who)
		return struct{}{}, p.Acks.Remove(r.Context(), code)
	}
	err := p.Acks.Put(r.Context(), code, api.Ack{By: who, Why: req.Why, At: now, Until: now.Add(d)},
		p.with(r.Context(), a.fleetTroubles(r.Context())))
	if err == nil {
		a.cfg.Log.Info("a problem was acknowledged", "code", code, "by", who, "why", req.Why, "for", d)
	}
	return struct{}{}, err
}
