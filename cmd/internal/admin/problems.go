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
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/xds/server"
)

const (
	// tellAgain is how old the problems may be that another replica is told.
	tellAgain = 2 * time.Second
	// readWithin is how long a list waits for the store. Then it goes by what was read last.
	readWithin = time.Second
	// freshWithin is how long somebody waits for a new list. Then the last one is taken.
	freshWithin = 2 * time.Second
)

// ProblemsConfig is where [Problems] looks.
type ProblemsConfig struct {
	Ledger  Ledger
	Catalog *catalog.Catalog
	Dir     *dir.Dir // Dir is nil without --certs.
	Custody *custody.Custodian
	Vault   *stores.Vault
	Audit   *audit.Log
	// Own are the problems of what this package does not see. It does not ask the store.
	Own func() []api.Problem
	// Lost asks the store whether it has lost something.
	Lost func(context.Context) []api.Problem
	Acks *problems.Acks
	// Every is the time between two lists that nobody asked for.
	Every time.Duration
	// Look takes each of these lists.
	Look func([]api.Problem)
	// File keeps since when problems stand over a restart. It is empty if nothing does.
	File string
	Log  *slog.Logger
}

// Problems finds what is not well at this replica. Run alone makes the list, and asks the store for
// it. Status, the metrics, the record of events and the other replicas read the same list.
type Problems struct {
	ProblemsConfig
	wake   chan struct{} // wake has capacity 1. Whoever sends wants a new list.
	memory problems.Memory
	behind behind
	unkept bool // unkept reports that File could not be written. Only Run uses it.

	mu      sync.Mutex
	last    made
	waiting []chan struct{} // waiting are closed by the next list that is begun.
	stored  []api.Problem   // stored are what the store said last.
	reading bool            // reading reports that the store is being asked.
}

// made is a list, and when it was made.
type made struct {
	at  time.Time
	own []api.Problem // own lacks troubles of nodes.
	all []api.Problem // all are dated, and marked if they were acknowledged.
}

// NewProblems returns a list that is empty until Run makes one.
func NewProblems(c ProblemsConfig) *Problems {
	return &Problems{ProblemsConfig: c, wake: make(chan struct{}, 1)}
}

// Here returns the problems of this replica and of its nodes, the most severe first, as the last
// look found them. It waits for nothing.
func (p *Problems) Here() []api.Problem { return slices.Clone(p.newest().all) }

func (p *Problems) newest() made {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// Fresh is Here after a new look. Without one within two seconds it returns the last.
func (p *Problems) Fresh(ctx context.Context) []api.Problem { return slices.Clone(p.fresh(ctx).all) }

func (p *Problems) fresh(ctx context.Context) made {
	ctx, cancel := context.WithTimeout(ctx, freshWithin)
	defer cancel()
	done := make(chan struct{})
	p.mu.Lock()
	p.waiting = append(p.waiting, done)
	p.mu.Unlock()
	p.changed()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return p.newest()
}

// changed asks for a new list, and does not wait for it.
func (p *Problems) changed() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
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
	last := p.newest()
	if time.Since(last.at) >= tellAgain {
		last = p.fresh(ctx)
	}
	out := slices.Clone(last.all)
	for i := range out {
		out[i].Acknowledged = nil
	}
	return out
}

// with returns own, and the problems of nodes that troubles say.
func (p *Problems) with(own []api.Problem, troubles api.Troubles) []api.Problem {
	out := slices.Clone(own)
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
	now := time.Now()
	p.memory.Date(out, now)
	p.Acks.Apply(out, now)
	problems.Sort(out)
	return out
}

// own returns the problems of this replica, without those of its nodes.
func (p *Problems) own() []api.Problem {
	out := p.Own()
	for _, name := range p.Ledger.Rollouts.Scopes() {
		if st, err := p.Ledger.Rollouts.Status(name); err == nil {
			out = append(out, ofScope(name, st)...)
		}
	}
	out = append(out, p.ofCertificates()...)
	out = append(out, p.ofReplica()...)
	out = append(out, p.ofSeal()...)
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(out, p.stored...)
}

// Run makes a list now and then, and for whoever asks, until ctx ends. So it is known since when a
// problem stands that nobody asked about.
func (p *Problems) Run(ctx context.Context) error {
	if p.File != "" {
		if err := p.memory.Load(p.File, time.Now()); err != nil {
			p.Log.Warn("problems begin anew with this start", "err", err)
		}
	}
	tick := time.NewTicker(p.Every)
	defer tick.Stop()
	p.make(ctx)
	p.keep()
	for {
		select {
		case <-ctx.Done():
			p.keep()
			return nil
		case <-p.wake:
			p.make(ctx)
		case <-tick.C:
			p.make(ctx)
			p.keep()
			p.Look(p.Here())
		}
	}
}

// make makes the list. Whoever asked before it was begun gets it.
func (p *Problems) make(ctx context.Context) {
	p.mu.Lock()
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	p.read(ctx)
	m := made{at: time.Now(), own: p.own()}
	m.all = p.with(m.own, p.troubles(ctx, ""))
	p.mu.Lock()
	p.last = m
	p.mu.Unlock()
	for _, done := range waiting {
		close(done)
	}
}

// read asks the store, and waits a second for it. While a store does not answer at all, it is not
// asked again.
func (p *Problems) read(ctx context.Context) {
	p.mu.Lock()
	busy := p.reading
	p.reading = true
	p.mu.Unlock()
	if busy {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	done := make(chan struct{})
	go func() {
		defer cancel()
		defer close(done)
		var frozen, lost []api.Problem
		var all sync.WaitGroup
		all.Go(func() { p.Acks.Read(ctx) })
		all.Go(func() { frozen = p.ofFrozen(ctx) })
		all.Go(func() { lost = p.Lost(ctx) })
		all.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stored, p.reading = append(frozen, lost...), false
	}()
	select {
	case <-done:
	case <-time.After(readWithin + 100*time.Millisecond):
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
	p.unkept = err != nil
}

// acknowledgeFor bounds how long an operator may know about a problem.
const acknowledgeFor = 90 * 24 * time.Hour

// ack acknowledges the problems of a code that stand now. It changes no key. So it is an event, and
// not a line of the audit log.
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
		defer p.changed()
		had, err := p.Acks.Remove(r.Context(), code)
		switch {
		case err != nil:
			return struct{}{}, err
		case !had:
			return struct{}{}, &api.Error{
				Message: code + " is not acknowledged: there is nothing to take back", Code: api.NotFound,
			}
		}
		a.did(r, events.ProblemUnack, code, "the acknowledgement of "+code+" was taken back")
		return struct{}{}, nil
	}
	own := p.fresh(r.Context()).own
	stands := a.fleetProblems(own, a.fleetTroubles(r.Context()), a.askProblems(r.Context()))
	now := time.Now() // what was seen just now for the first time is known, too
	err := p.Acks.Put(r.Context(), code, api.Ack{By: who, Why: req.Why, At: now, Until: now.Add(d)}, stands)
	p.changed()
	if err == nil {
		text := fmt.Sprintf("%s was acknowledged for %s", code, d)
		if req.Why != "" {
			text += fmt.Sprintf(" (%s)", req.Why)
		}
		a.did(r, events.ProblemAcked, code, text)
	}
	return struct{}{}, err
}
