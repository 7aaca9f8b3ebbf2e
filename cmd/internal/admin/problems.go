package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/xds/server"
)

const (
	// lookEvery is how often a replica looks for problems that nobody asks about. It costs about as
	// much as a scrape.
	lookEvery = 30 * time.Second
	// tellAgain is how old the problems may be that another replica is told.
	tellAgain = 2 * time.Second
)

// Problems finds what is not well at this replica. Status and the metrics read the same list.
type Problems struct {
	Ledger  Ledger
	Catalog *catalog.Catalog
	Dir     *dir.Dir // Dir is nil without --certs.
	Custody *custody.Custodian
	Vault   *stores.Vault
	Audit   *audit.Log
	Own     func() []api.Problem // Own are those of what this package does not see.
	Acks    *problems.Acks
	// File keeps since when problems stand over a restart. It is empty if nothing does.
	File string
	Log  *slog.Logger

	memory problems.Memory
	behind behind

	mu     sync.Mutex
	last   []api.Problem // last are those of the last look at this replica, as the others are told.
	lastAt time.Time
	unkept bool // unkept reports that File could not be written.
}

// Here returns the problems of this replica and of its nodes, the most severe first.
func (p *Problems) Here(ctx context.Context) []api.Problem {
	out := p.with(ctx, p.troubles(ctx, ""))
	last := slices.Clone(out)
	for i := range last {
		last[i].Acknowledged = nil
	}
	p.mu.Lock()
	p.last, p.lastAt = last, time.Now()
	p.mu.Unlock()
	return out
}

// troubles are those of this replica's nodes.
func (p *Problems) troubles(ctx context.Context, replica string) api.Troubles {
	out := p.Ledger.here(ctx, replica)
	out.Stale = p.Stale(ctx, time.Now())
	return out
}

// Stale returns which nodes that are connected to this replica have older certificates than the
// newest for long.
func (p *Problems) Stale(ctx context.Context, now time.Time) api.StaleCertificates {
	return p.behind.look(now, func(keep func(string, server.NameState) bool) []server.StreamView {
		return p.Ledger.Streams.Streams(ctx, server.Query{Keep: keep})
	})
}

// Told are the problems of this replica as others are told: without what was acknowledged, which
// they know. They are looked for anew if the last look was two seconds ago.
func (p *Problems) Told(ctx context.Context) []api.Problem {
	p.mu.Lock()
	last, at := p.last, p.lastAt
	p.mu.Unlock()
	if time.Since(at) < tellAgain {
		return last
	}
	p.Here(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
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
	out = append(out, ofStale(troubles.Stale)...)
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
	if p.File != "" {
		if err := p.memory.Load(p.File, time.Now()); err != nil {
			p.Log.Warn("problems begin anew with this start", "err", err)
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		p.Here(ctx)
		p.keep()
		select {
		case <-ctx.Done():
			p.keep()
			return nil
		case <-tick.C:
		}
	}
}

// Over says that a problem was told as over.
func (p *Problems) Over(code, where string) { p.memory.Over(code, where) }

// keep writes since when problems stand.
func (p *Problems) keep() {
	if p.File == "" {
		return
	}
	err := p.memory.Keep(p.File, time.Now())
	if err != nil && !p.unkept {
		p.Log.Warn("acknowledged problems may come back after a restart", "err", err)
	}
	p.unkept = err != nil // only Run calls this
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
	code, p := r.PathValue("code"), a.cfg.Problems
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
	stands := a.fleetProblems(r.Context(), a.fleetTroubles(r.Context()), a.askProblems(r.Context()))
	now := time.Now() // what was seen just now for the first time is known, too
	err := p.Acks.Put(r.Context(), code, api.Ack{By: who, Why: req.Why, At: now, Until: now.Add(d)}, stands)
	if err == nil {
		a.cfg.Log.Info("a problem was acknowledged", "code", code, "by", who, "why", req.Why, "for", d)
	}
	return struct{}{}, err
}
