package fleet

import (
	"context"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// turn is the state of a scope that belongs to who reads the rollout and swaps it. It is handed
// out by [scope.take] and nowhere else, so only one goroutine has it. It gives access to the rest
// of the scope.
type turn struct {
	*scope

	// resumed says that the roster was read that the replica had before it stopped.
	resumed       bool
	rosterAtStart []byte // rosterAtStart is that roster's record. It is nil if there was none.
	// mayDecide says that the others can know of this replica, and none objects.
	mayDecide      bool
	outcomeUnknown bool // outcomeUnknown says that the last swap failed, or perhaps did not.
	skewLogged     bool // skewLogged says that the clock was too far off at the last look.
	// putBackSince is since when the store is known to be older than HighestSent, or zero.
	putBackSince time.Time
	damagedSince time.Time // damagedSince is since when the ring's record is damaged, or zero.
	// writeBackUntil is Tally.WriteBackUntil, or zero while nodes prove nothing.
	writeBackUntil time.Time

	// shorterAt is when this replica's entry among the lifetimes may be written shorter, or zero.
	shorterAt time.Time

	record storedRecord // record is what stands in the store.
	quorum quorum       // quorum keeps Tally.AcceptedSince.
	// recorded is the change that was written down last, if it took no effect so far.
	recorded recordedChange
	members  []rotation.Member // members is room for what read reads.

	// damagedRosters are those that cannot be read, by store key.
	damagedRosters map[string]damagedRoster
	// othersRead is when the others' rosters were read last.
	othersRead time.Time
	// readingSince is since when they have been read without a gap.
	readingSince time.Time
}

// storedRecord is the rollout that a value of the store decodes to. While that value stands it
// need not be decoded again. A revision would say less: one who writes past the store's driver, or
// brings a part of the store back, changes a value without it.
type storedRecord struct {
	val []byte
	r   rotation.Rollout
}

// take waits for the turn. The caller gives it back by [turn.release].
func (s *scope) take(ctx context.Context) (*turn, error) {
	select {
	case t := <-s.turns:
		return t, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *turn) release() { t.turns <- t }

// resume reads the roster that the replica wrote before it stopped, if that was not done yet.
func (s *scope) resume(ctx context.Context) error {
	t, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer t.release()
	return t.resume(ctx)
}

// decide carries the rollout as far as it can go now, and returns what it is then. cmd is a
// command that changes it first; nil means that there is none.
func (s *scope) decide(ctx context.Context, cmd command) (view, error) {
	t, err := s.take(ctx)
	if err != nil {
		return view{}, err
	}
	defer t.release()
	if err := t.resume(ctx); err != nil {
		// else a command that comes early takes the fleet for an empty one
		return view{}, err
	}
	return t.decide(ctx, cmd)
}

// withdraw puts back the roster that the replica found when it started. What it had written of
// itself since keeps nobody else from working, and the nodes that it knew then are still waited
// for.
func (s *scope) withdraw() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	t, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer t.release()
	if !t.resumed { // it wrote nothing yet
		return nil
	}
	return t.put(ctx, t.rosterKey(), t.rosterAtStart)
}

// swapIn stores r, if the record is still the one of rev.
func (t *turn) swapIn(ctx context.Context, rev store.Rev, r rotation.Rollout) error {
	val, err := r.Encode()
	if err != nil {
		return err
	}
	if _, err = t.cfg.Store.Swap(ctx, t.ringKey(), rev, val); err == nil {
		t.record = storedRecord{val, r}
	}
	return err
}
