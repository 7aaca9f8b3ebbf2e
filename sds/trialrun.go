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
	// claimRetry is the wait before the store is asked again for another replica's outcome. It
	// doubles up to claimRetryMost.
	claimRetry     = 25 * time.Millisecond
	claimRetryMost = 400 * time.Millisecond
	// storeCalls is how many claims and outcomes are written at the same time. The line of the
	// audit log that each of them writes has 250 ms.
	storeCalls   = 16
	recordWithin = 5 * time.Second
	recordRetry  = 500 * time.Millisecond
)

// runTrials runs trials in their order, [maxTrialsAtOnce] at the same time. The time of a trial
// begins when its turn has come. So a change of very many certificates takes longer, and is still
// tried.
func (t *Table) runTrials(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxTrialsAtOnce + 1)
	g.Go(func() error {
		for ctx.Err() == nil {
			a := t.nextTrial()
			if a == nil {
				select {
				case <-ctx.Done():
				case <-t.trialQueued:
				}
				continue
			}
			g.Go(func() error {
				t.runTrial(ctx, a)
				return nil
			})
		}
		return nil
	})
	return g.Wait()
}

// nextTrial takes the next trial from the queue, or nil.
func (t *Table) nextTrial() *kindTrial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.trialQueue) == 0 {
		t.trialQueue = nil
		return nil
	}
	a := t.trialQueue[0]
	t.trialQueue[0] = nil
	t.trialQueue = t.trialQueue[1:]
	return a
}

// runTrial runs one trial. It asks for other replicas' outcomes again and again, since an event
// may be lost.
func (t *Table) runTrial(ctx context.Context, a *kindTrial) {
	within, cancel := context.WithTimeout(ctx, t.cfg.TryFor)
	defer cancel()
	why := errors.New("the store was not asked in time")
	for wait := claimRetry; within.Err() == nil; wait = min(2*wait, claimRetryMost) {
		v, err := t.claim(within, a)
		switch {
		case err != nil:
			why = err
		case v.Ours:
			why = fmt.Errorf("node %s has not answered", a.node)
			t.sendFirst(a)
			wait = t.cfg.TryFor
		case v.Outcome != keysource.Trying:
			t.setOutcome(a, v)
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
			t.recordOutcome(ctx, a)
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	if t.setOutcome(a, keysource.Verdict{Outcome: keysource.Silent, Node: a.node, Since: time.Now()}) {
		t.unanswered.add(string(a.trial.name), fmt.Errorf("kind %s: %w", a.kind, why))
	}
	t.recordOutcome(ctx, a)
}

// claim asks the store that a's node go first, when one of the storeCalls is free.
func (t *Table) claim(ctx context.Context, a *kindTrial) (keysource.Verdict, error) {
	select {
	case t.storeSlots <- struct{}{}:
		defer func() { <-t.storeSlots }()
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

// sendFirst sends the new certificate to the first node, or to another of its kind if that one has
// gone.
func (t *Table) sendFirst(a *kindTrial) {
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
func (t *Table) eligible(a *kindTrial) iter.Seq2[*entry, xds.Node] {
	return func(yield func(*entry, xds.Node) bool) {
		for e := range a.trial.entries {
			for mailbox := range e.all() {
				p := t.peers[mailbox]
				if p == nil || a.trial.kindOf(p.node) != a.kind || !t.mayHave(p.node, e) ||
					t.spellings.refuses(p.node, e) {
					continue
				}
				if !yield(e, p.node) {
					return
				}
			}
		}
	}
}

// wakeFor wakes the streams of a's kind that get the new certificate now.
func (t *Table) wakeFor(a *kindTrial) {
	for e := range a.trial.entries {
		for mailbox := range e.all() {
			if p := t.peers[mailbox]; p != nil && a.trial.kindOf(p.node) == a.kind && a.trial.gets(p.node) {
				mailbox.Put(e.asked)
			}
		}
	}
}

// setOutcome gives a its outcome, and reports whether it had none.
func (t *Table) setOutcome(a *kindTrial, v keysource.Verdict) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.setOutcomeLocked(a, v)
}

// setOutcomeLocked does what setOutcome does. The caller holds mu.
func (t *Table) setOutcomeLocked(a *kindTrial, v keysource.Verdict) bool {
	if isClosed(a.done) {
		return false
	}
	a.outcome, a.words, a.by, a.since = v.Outcome, v.Words, v.Node, v.Since
	t.outcomes[v.Outcome]++
	t.closeKind(a)
	tr := a.trial
	t.wakeFor(a)
	if !tr.everyKindGets() {
		return true
	}
	for e := range tr.entries {
		if e.pending != nil && e.pending.trial == tr {
			e.pending = nil
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

// recordOutcome records the outcome of a, for the other replicas.
func (t *Table) recordOutcome(ctx context.Context, a *kindTrial) {
	t.mu.Lock()
	how, words, by, ours := a.outcome, a.words, a.by, a.ours
	t.mu.Unlock()
	if how == keysource.Trying || !ours {
		return
	}
	if how == keysource.Refused {
		t.refused.add(string(a.trial.name), fmt.Errorf("node %s of kind %s: %s", by, a.kind, words))
	}
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	for ctx.Err() == nil {
		var err error
		select {
		case t.storeSlots <- struct{}{}:
			err = t.cfg.Trials.Settle(ctx, a.trial.name, a.trial.version, a.kind, how, words)
			<-t.storeSlots
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err == nil {
			return
		}
		timer := time.NewTimer(recordRetry)
		select {
		case <-ctx.Done():
			t.cfg.Log.Warn("what became of a changed certificate at the first node "+
				"cannot be written down for other replicas",
				"name", a.trial.name, "kind", a.kind, "outcome", how, "err", err)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Observe takes an event of a stream. It does not block, and costs nothing while no certificate is
// on trial.
func (t *Table) Observe(ev xds.Event) {
	if t.trialsOpen.Load() == 0 || ev.Type != TypeURL || ev.Kind != xds.Accepted && ev.Kind != xds.Refused {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.certs[ev.Name]
	if e == nil || e.pending == nil || e.pending.trial.version != ev.Version {
		return
	}
	tr := e.pending.trial
	a := tr.kinds[tr.kindOf(ev.Node)]
	if a == nil {
		return
	}
	v := keysource.Verdict{Outcome: keysource.Accepted, Node: ev.Node.ID, Since: ev.At}
	if ev.Kind == xds.Refused {
		v.Outcome, v.Words = keysource.Refused, ev.Words
	}
	if !isClosed(a.done) && ev.Kind == xds.Refused {
		a.stream = ev.Node.Stream // whichever stream refused it is offered the remedy next
	}
	t.setOutcomeLocked(a, v)
}

// TrialsChanged takes over what was recorded of trials of these names.
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
			t.setOutcomeLocked(a, keysource.Verdict{Outcome: keysource.Accepted, Since: time.Now()})
		}
	}
	for e := range tr.entries {
		if e.pending != nil && e.pending.trial == tr {
			e.pending = nil
			e.wake(e.asked)
		}
	}
	clear(tr.entries)
	if t.trials[tr.name] == tr {
		delete(t.trials, tr.name)
	}
}

// Refusal is a certificate that some kind of node does not get, since the first node refused it.
type Refusal struct {
	Name    keysource.Name
	Version string
	Kind    string // what the nodes call themselves, and their version
	Node    string // the node that refused it
	Words   string
	Since   time.Time
}

// Refusals lists the watched certificates that some kind of node does not get: at most 20, by
// name. n counts all of them.
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
	slices.SortFunc(some, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Kind, b.Kind))
	})
	return some[:min(len(some), most)], n
}

// Tried counts the trials with one kind of node since the start, by outcome.
func (t *Table) Tried() (n [keysource.Silent + 1]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.outcomes
}
