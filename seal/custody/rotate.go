package custody

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
)

// Retire waits for the reports of the other replicas, which look once in a refresh.
const (
	answerWithin = 30 * time.Second
	answerPoll   = 200 * time.Millisecond
)

// ErrRefused wraps every refusal. The text says why, and what would help.
var ErrRefused = errors.New("refused")

// Rotate stages a new key, unless one is staged, and returns at once. Run does the rest. Errors
// may wrap [seal.ErrReadOnly].
func (c *Custodian) Rotate(ctx context.Context) (seal.State, error) {
	st, err := c.cfg.Sealer.Stage(ctx)
	c.signal()
	return st, err
}

// Retire drops the old keys from the keyset. Before that every replica must have reported anew
// that it seals with the new key. Retire waits for that. A full scan must have proved that the new
// key alone opens every record. Retire returns how many records it has opened. The error wraps
// [ErrRefused] if one of these is not so. It wraps [seal.ErrReadOnly], too, if both are so and the
// keys must be dropped by hand.
func (c *Custodian) Retire(ctx context.Context) (records int, err error) {
	st, asked, err := c.awaitReports(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { <-c.turn }()
	begun, err := c.noteScan(ctx, st.Primary)
	if err != nil {
		return 0, err
	}
	if err := c.reseal(ctx); err != nil { // what a replica wrote before it had the new key
		return 0, err
	}
	records, bad, err := c.prove(ctx)
	if err != nil {
		return records, err
	}
	if len(bad) > 0 {
		return records, refuse("not every record opens with the new key: %s. Put those again or remove them; no "+
			"key was dropped", strings.Join(bad, ", "))
	}
	late, err := c.notReported(ctx, st.Primary, asked)
	if err == nil && len(late) == 0 {
		err = c.noteDone(ctx, st.Primary, begun)
	}
	if len(late) > 0 || errors.Is(err, store.ErrConflict) {
		return records, refuse("a replica came with another keyset meanwhile: %s. No key was dropped; try again",
			strings.Join(late, ", "))
	}
	if err != nil {
		return records, err
	}
	if _, err := c.cfg.Sealer.Retire(ctx, st.Primary); errors.Is(err, seal.ErrReadOnly) {
		return records, fmt.Errorf("%w: each of %d records opens with %s alone, and every replica seals with it, "+
			"but the keyset of %s %w: drop the old keys from a copy "+
			"(%s), put it in its place at each replica, "+
			"and restart those that took it from the environment",
			ErrRefused, records, st.Primary, c.cfg.Sealer.Source(), seal.ErrReadOnly,
			c.cfg.Commands.Retire)
	} else if err != nil {
		return records, err
	}
	c.cfg.Log.Info("the old sealing keys were dropped", "records_proved", records, "key", st.Primary.String())
	c.signal()
	return records, nil
}

// awaitReports waits until every replica has reported anew that it seals with the primary key. It
// returns with turn taken, unless it fails.
func (c *Custodian) awaitReports(ctx context.Context) (st seal.State, asked time.Time, err error) {
	end := time.Now().Add(answerWithin)
	for {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return st, asked, ctx.Err()
		}
		late, err := c.ready(ctx, &st, &asked)
		if err == nil && len(late) == 0 {
			return st, asked, nil
		}
		<-c.turn
		if err != nil {
			return st, asked, err
		}
		if time.Now().After(end) {
			return st, asked, refuse("replicas have not said within %s that they seal with the new key: %s. "+
				"Bring them the keyset, or stop them (one that died is "+
				"forgotten after %s)", answerWithin, strings.Join(late, ", "), silentFor)
		}
		select {
		case <-time.After(answerPoll):
		case <-ctx.Done():
			return st, asked, ctx.Err()
		}
	}
}

// ready names the replicas that are waited for, and asks them the first time. The caller holds
// turn.
func (c *Custodian) ready(ctx context.Context, st *seal.State, asked *time.Time) (late []string, err error) {
	if _, err := c.cfg.Sealer.Reload(ctx); err != nil {
		return nil, err
	}
	*st = c.cfg.Sealer.State()
	if len(st.Staged) > 0 {
		return nil, refuse("the new key %s does not seal yet, it waits for replicas that lack it: %s (%s)",
			st.Staged[len(st.Staged)-1], strings.Join(c.Status().WaitsFor, ", "), c.cfg.Commands.Status)
	}
	if len(st.Old) == 0 {
		return nil, refuse("the keyset holds one key only (%s): there is no old one", st.Primary)
	}
	if asked.IsZero() {
		if *asked, err = c.ask(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.report(ctx); err != nil {
		return nil, err
	}
	return c.notReported(ctx, st.Primary, *asked)
}

func refuse(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, a...))
}

// Status is the state of the seal.
type Status struct {
	Source   string
	Keys     seal.State
	Resealed bool // every record is known to be sealed with the primary key
	Work     Work
	// WaitsFor names the replicas that lack the staged key, or may still write with an old one.
	WaitsFor []string
	Canary   error // the error of its last opening
	Err      error // the error of the last look
}

// Status returns the state from memory.
func (c *Custodian) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.cfg.Sealer.State()
	w := c.work
	w.Bad = append([]string(nil), w.Bad...)
	return Status{
		Source: c.cfg.Sealer.Source(), Keys: st, Resealed: len(st.Old) == 0 || c.finished == st.Primary, Work: w,
		WaitsFor: append([]string(nil), c.waits...), Canary: c.canary, Err: c.err,
	}
}

// SetCanary notes the outcome of opening the canary at the start.
func (c *Custodian) SetCanary(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canary = err
}
