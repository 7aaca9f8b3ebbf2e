package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// view is what a decision is made on.
type view struct {
	r     rotation.Rollout
	p     rotation.Policy
	t     rotation.Tally // t is valid while the decision lasts. The next one uses its room again.
	now   time.Time
	due   time.Time // due is rotation.Rollout.Due. It is set in what decide returns.
	fresh func() keysource.TicketKey

	// damaged says why the ring's record cannot be read. r is empty then, or what stands in for it.
	damaged error
}

// attempt is one way through the steps of a decision. It ends with one swap at most.
type attempt struct {
	view
	cmd    command          // cmd changes the rollout first; nil means that there is none.
	stored rotation.Rollout // stored is what was read.
	rev    store.Rev        // rev is the revision of what was read.
	// lifetimes are those in force at the replicas.
	lifetimes lifetimes
	// announced is how many lines of the history are not to be announced any more.
	announced uint64
	// recorded is how many lines of the history are not to be written down any more.
	recorded uint64
	// burn says that the store was put back, and every key is to be replaced.
	burn    bool
	skewed  error            // skewed says that this machine's clock is too far off to decide.
	next    rotation.Rollout // next is what the rollout becomes.
	changed bool             // changed says that next is to be stored.
}

// errOvertaken says that another replica stored a change first.
var errOvertaken = errors.New("another replica was first")

// steps are those of a decision, in order. An error ends it.
var steps = []func(*turn, context.Context, *attempt) error{
	(*turn).read,            // It reads the store's time, the rollout, and after it the rosters.
	(*turn).checkCompanions, // It ends this replica if it cannot work beside the others.
	// It writes down that the store was emptied, before any node is let in.
	(*turn).findLoss,
	(*turn).replaceDamaged, // It waits until it is known what stands in for a damaged record.
	(*turn).writeBack,      // It puts the ring that was sent in the place of an older one.
	// It keeps since when nodes are known to hold a later ring than the store's.
	(*turn).noteProof,
	// It finds a store that was put back to an earlier day, and has its keys replaced.
	(*turn).findPutBack,
	// It leaves rollouts to the other replicas while this machine's clock is off.
	(*turn).checkClock,
	(*turn).runCommand, // It makes the change that was asked for, or replaces every key.
	// It takes the steps of the rollout that are open, up to the next ring.
	(*turn).takeSteps,
	(*turn).recordAndStore, // It writes the change down, and then swaps it into the store.
	// It has nodes told of a longer ticket_lifetime that the store holds by now.
	(*turn).settleLifetime,
	(*turn).publishToStreams, // It makes the outcome what this replica sends, and announces it.
}

// decide goes through the steps until nothing changes. Each ring is a swap of its own with the
// rosters read anew before it; see [rotation.Rollout.Next]. If another replica was first it begins
// again.
func (t *turn) decide(ctx context.Context, cmd command) (view, error) {
	var made []keysource.TicketKey
	for {
		a := attempt{cmd: cmd}
		a.p, a.fresh = t.policyNow(), reuse(&made, t.cfg.Fresh)
		err := t.try(ctx, &a)
		if errors.Is(err, errOvertaken) {
			continue
		}
		if err != nil || !a.changed {
			return a.view, err
		}
		made = nil
		if !a.burn {
			// else the command comes after the burn, since what was put back is not to be sent
			cmd = nil
		}
	}
}

func (t *turn) try(ctx context.Context, a *attempt) error {
	for _, step := range steps {
		if err := step(t, ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// writeBack puts the ring that was sent in the place of an older one. A store that has gone back
// to an older ring, having lost writes, gets the newer one again. If the store has gone another
// way since, all begins anew above both.
func (t *turn) writeBack(_ context.Context, a *attempt) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.announced, a.recorded = a.r.Lines, a.stored.Lines
	lost := a.r.Generation
	switch {
	case t.ring == nil:
	case lost < t.rollout.Generation:
		hold, why := a.r.Hold, fmt.Sprintf("the store had gone back to g%d", lost)
		switch { // rosters may be lost with it
		case a.damaged != nil:
			// they are not; but another replica may have a newer ring, and writes that back
			hold, why = t.rollout.Hold, fmt.Sprintf("the stored record was damaged: %v", a.damaged)
			if t.cfg.Shared {
				hold = latest(hold, a.now.Add(settleFor(t.cfg.Refresh)))
			}
		case lost == 0: // nobody is known to be here
			hold = latest(hold, a.now.Add(forgetAfter(a.p.NodeLease)))
		case t.cfg.Shared:
			// the newest words of some are lost, until each replica has written its roster again
			hold = latest(hold, a.now.Add(settleFor(t.cfg.Refresh)))
		default:
			hold = t.rollout.Hold
		}
		a.r = t.rollout.WrittenBack(hold, why, a.now)
		a.announced = t.rollout.Lines
	case lost == t.rollout.Generation && !slices.Equal(a.r.Ring().Keys, t.ring.Keys):
		t.roster.highest = max(t.roster.highest, lost+1)
		a.t.Highest = t.roster.highest
		t.writeBackUntil = a.now // this replica knows it of itself, and has nothing to write back
	case t.outcomeUnknown: // the lines that were read may be this replica's own
		a.announced = t.rollout.Lines
	}
	if a.r.Generation != a.stored.Generation {
		a.recorded = a.announced
	}
	return nil
}

// noteProof keeps since when nodes are known to hold a later ring than the store's.
func (t *turn) noteProof(_ context.Context, a *attempt) error {
	switch {
	case a.t.Highest <= a.r.Generation:
		t.writeBackUntil = time.Time{}
	case t.writeBackUntil.IsZero():
		t.writeBackUntil = a.now.Add(writeBackWithin)
	}
	a.t.WriteBackUntil = t.writeBackUntil
	return nil
}

// checkClock leaves rollouts to the other replicas while this machine's clock is off.
func (t *turn) checkClock(_ context.Context, a *attempt) error {
	a.skewed = t.skewed()
	t.logSkew(a.skewed)
	if a.skewed != nil && (a.burn || a.cmd != nil) {
		return a.skewed
	}
	return nil
}

// runCommand makes the change that was asked for, or replaces every key.
func (t *turn) runCommand(_ context.Context, a *attempt) (err error) {
	a.next = a.r
	switch {
	case a.burn:
		a.next, _ = a.r.Burn("lockstepd", "the store held an older ring than was sent before", a.fresh(), a.now)
	case a.cmd != nil:
		if a.next, err = a.cmd(a.view); err != nil {
			return err
		}
	}
	a.changed = a.next.Generation != a.stored.Generation || a.next.Lines != a.stored.Lines ||
		a.next.Wanted != a.stored.Wanted
	return nil
}

// takeSteps takes the steps of the rollout that are open, up to the next ring.
func (t *turn) takeSteps(_ context.Context, a *attempt) error {
	if a.next.Generation == a.stored.Generation && a.skewed == nil {
		var stepped bool
		a.next, stepped = a.next.Next(a.p, a.t, a.now, a.fresh)
		a.changed = a.changed || stepped
	} else if a.changed {
		a.next = a.next.Noted(a.p)
	}
	return nil
}

// recordAndStore writes the change down, and then swaps it into the store.
func (t *turn) recordAndStore(ctx context.Context, a *attempt) (err error) {
	if !a.changed {
		return nil
	}
	if a.next.Audit, err = t.recordChange(ctx, a.r, a.next, a.recorded); err == nil {
		if err = t.swapIn(ctx, a.rev, a.next); errors.Is(err, store.ErrConflict) {
			return errOvertaken
		}
	}
	switch {
	case err == nil:
	case !refused(err):
		t.outcomeUnknown = true
	case a.r.Generation == a.stored.Generation && len(a.stored.Keys) > 0:
		// follow the others all the same
		a.r = a.stored
		t.settle(ctx, a, a.stored)
		t.publish(a.view, a.announced)
	}
	return err
}

// publishToStreams makes the outcome what this replica sends, and announces it.
func (t *turn) publishToStreams(_ context.Context, a *attempt) error {
	a.r = a.next
	t.outcomeUnknown, t.recorded = false, recordedChange{}
	t.publish(a.view, a.announced)
	if !a.changed {
		a.due = a.r.Due(a.p, a.t, a.now)
	}
	return nil
}

// reuse makes a source of keys that begins with those that it made for a try which came to
// nothing.
func reuse(made *[]keysource.TicketKey, fresh func() keysource.TicketKey) func() keysource.TicketKey {
	n := 0
	return func() keysource.TicketKey {
		if n == len(*made) {
			*made = append(*made, fresh())
		}
		n++
		return (*made)[n-1]
	}
}

// latest returns the last of some times.
func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
