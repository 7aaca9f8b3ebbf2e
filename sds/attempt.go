package sds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

const (
	lookAgain     = 25 * time.Millisecond // for what another replica found out, doubling
	lookAgainMost = 400 * time.Millisecond
	storeCalls    = 16 // claims and outcomes that are written at once: the line of the audit log behind them has 250 ms
	settleWithin  = 5 * time.Second
	settleAgain   = 500 * time.Millisecond
)

// tryAll carries attempts through, in their order and [maxAttempts] at once. An attempt's time begins when its turn has come, so a change of very
// many certificates takes longer, and is still tried.
func (t *Table) tryAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxAttempts + 1)
	g.Go(func() error {
		for ctx.Err() == nil {
			a := t.nextAttempt()
			if a == nil {
				select {
				case <-ctx.Done():
				case <-t.attempted:
				}
				continue
			}
			g.Go(func() error {
				t.try(ctx, a)
				return nil
			})
		}
		return nil
	})
	return g.Wait()
}

func (t *Table) nextAttempt() *attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.attempts) == 0 {
		t.attempts = nil
		return nil
	}
	a := t.attempts[0]
	t.attempts[0] = nil
	t.attempts = t.attempts[1:]
	return a
}

// try carries one attempt through. Other replicas' answers are looked for again and again, since an event may be lost.
func (t *Table) try(ctx context.Context, a *attempt) {
	within, cancel := context.WithTimeout(ctx, t.cfg.TryFor)
	defer cancel()
	why := errors.New("the store was not asked in time")
	for wait := lookAgain; within.Err() == nil; wait = min(2*wait, lookAgainMost) {
		v, err := t.claim(within, a)
		switch {
		case err != nil:
			why = err
		case v.Ours:
			why = fmt.Errorf("node %s has not answered", a.node)
			t.goFirst(a)
			wait = t.cfg.TryFor
		case v.Outcome != keysource.Trying:
			t.decide(a, v)
			return
		default:
			why = fmt.Errorf("node %s of another replica has not answered", v.Node)
		}
		timer := time.NewTimer(wait)
		select {
		case <-within.Done():
		case <-a.done:
		case <-timer.C:
		}
		timer.Stop()
		if isClosed(a.done) {
			t.settle(ctx, a)
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	if t.decide(a, keysource.Verdict{Outcome: keysource.Silent, Node: a.node, Since: time.Now()}) {
		t.silent.add(string(a.trial.name), fmt.Errorf("kind %s: %w", a.kind, why))
	}
	t.settle(ctx, a)
}

func (t *Table) claim(ctx context.Context, a *attempt) (keysource.Verdict, error) {
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
		return t.cfg.Trials.Claim(ctx, a.trial.name, a.trial.version, a.kind, a.node)
	case <-ctx.Done():
		return keysource.Verdict{}, errors.New("the store is busy with other changed certificates")
	}
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// goFirst sends the new certificate to the first node, or to another of its kind if that has gone.
func (t *Table) goFirst(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.ours || isClosed(a.done) {
		return
	}
	stays := false
	var other *xds.Node
	for _, node := range t.eligible(a) {
		stays = stays || node.Stream == a.stream
		other = &node
	}
	if !stays && other != nil {
		a.node, a.stream = other.ID, other.Stream
	}
	a.ours = true
	t.wakeFor(a)
}

// eligible yields the nodes of a's kind that watch something on trial, and may have it.
func (t *Table) eligible(a *attempt) iter.Seq2[*entry, xds.Node] {
	return func(yield func(*entry, xds.Node) bool) {
		for e := range a.trial.entries {
			for box := range e.all() {
				p := t.peers[box]
				if p == nil || a.trial.kindOf(p.node) != a.kind || !t.mayHave(p.node, e) || t.doors.shut(p.node, e) {
					continue
				}
				if !yield(e, p.node) {
					return
				}
			}
		}
	}
}

// wakeFor wakes the streams of a's kind that get the new certificate by now.
func (t *Table) wakeFor(a *attempt) {
	for e := range a.trial.entries {
		for box := range e.all() {
			if p := t.peers[box]; p != nil && a.trial.kindOf(p.node) == a.kind && a.trial.gets(p.node) {
				box.Put(e.asked)
			}
		}
	}
}

// decide gives a its outcome, and reports whether it had none.
func (t *Table) decide(a *attempt, v keysource.Verdict) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.decided(a, v)
}

// decided: the caller holds mu.
func (t *Table) decided(a *attempt, v keysource.Verdict) bool {
	if isClosed(a.done) {
		return false
	}
	a.outcome, a.words, a.by, a.since = v.Outcome, v.Words, v.Node, v.Since
	t.triedBy[v.Outcome]++
	t.close(a)
	tr := a.trial
	t.wakeFor(a)
	if !tr.over() {
		return true
	}
	for e := range tr.entries {
		if e.trying != nil && e.trying.trial == tr {
			e.trying = nil
		}
	}
	clear(tr.entries)
	time.AfterFunc(lingerTrial, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.trials[tr.name] == tr && len(tr.entries) == 0 {
			delete(t.trials, tr.name)
		}
	})
	return true
}

// settle writes down what became of a, for the other replicas.
func (t *Table) settle(ctx context.Context, a *attempt) {
	t.mu.Lock()
	how, words, by, ours := a.outcome, a.words, a.by, a.ours
	t.mu.Unlock()
	if how == keysource.Trying || !ours {
		return
	}
	if how == keysource.Refused {
		t.declined.add(string(a.trial.name), fmt.Errorf("node %s of kind %s: %s", by, a.kind, words))
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for ctx.Err() == nil {
		var err error
		select {
		case t.asking <- struct{}{}:
			err = t.cfg.Trials.Settle(ctx, a.trial.name, a.trial.version, a.kind, how, words)
			<-t.asking
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err == nil {
			return
		}
		timer := time.NewTimer(settleAgain)
		select {
		case <-ctx.Done():
			t.cfg.Log.Warn("what became of a changed certificate at the first node cannot be written down for other replicas", "name", a.trial.name, "kind", a.kind, "outcome", how, "err", err)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Observe takes what happened on a stream. It does not block, and costs nothing while no certificate is on trial.
func (t *Table) Observe(ev xds.Event) {
	if t.trialsOpen.Load() == 0 || ev.Type != TypeURL || ev.Kind != xds.Accepted && ev.Kind != xds.Refused {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.certs[ev.Name]
	if e == nil || e.trying == nil || e.trying.trial.version != ev.Version {
		return
	}
	tr := e.trying.trial
	a := tr.kinds[tr.kindOf(ev.Node)]
	if a == nil {
		return
	}
	v := keysource.Verdict{Outcome: keysource.Accepted, Node: ev.Node.ID, Since: ev.At}
	if ev.Kind == xds.Refused {
		v.Outcome, v.Words = keysource.Refused, ev.Words
	}
	if !isClosed(a.done) && ev.Kind == xds.Refused {
		a.stream = ev.Node.Stream // whichever it was, it is offered what cures it in the place of this one
	}
	t.decided(a, v)
}

// TrialsChanged takes over what was written of trials of these names.
func (t *Table) TrialsChanged(names []keysource.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range names {
		tr := t.trials[n]
		if tr == nil {
			continue
		}
		if released, _ := t.cfg.Trials.Known(n, tr.version); released {
			t.release(tr)
		}
	}
}

// release ends a trial: every node gets the certificate.
func (t *Table) release(tr *trial) {
	for _, a := range tr.kinds {
		if a.outcome == keysource.Trying {
			t.decided(a, keysource.Verdict{Outcome: keysource.Accepted, Since: time.Now()})
		}
	}
	for e := range tr.entries {
		if e.trying != nil && e.trying.trial == tr {
			e.trying = nil
			e.wake(e.asked)
		}
	}
	clear(tr.entries)
	if t.trials[tr.name] == tr {
		delete(t.trials, tr.name)
	}
}

// Refusal is a certificate that some kind of node does not get, since the first one refused it.
type Refusal struct {
	Name    keysource.Name
	Version string
	Kind    string // what the nodes call themselves, and their version
	Node    string // that refused it
	Words   string
	Since   time.Time
}

// Refusals lists, by name, the certificates that nodes watch and that some kind of node does not get; 20 at most, of n.
func (t *Table) Refusals() (some []Refusal, n int) {
	const most = 20
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tr := range t.trials {
		for _, a := range tr.kinds {
			if a.outcome == keysource.Refused {
				n++
				some = append(some, Refusal{tr.name, tr.version, a.kind, a.by, a.words, a.since})
			}
		}
	}
	slices.SortFunc(some, func(a, b Refusal) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind)) })
	return some[:min(len(some), most)], n
}

// Tried counts the trials, by outcome, since the start.
func (t *Table) Tried() (n [keysource.Silent + 1]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.triedBy
}
