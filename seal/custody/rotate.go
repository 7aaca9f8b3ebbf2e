package custody

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lockstep-tls/lockstep/seal"
)

// ErrRefused wraps every refusal: the text says why, and what would help.
var ErrRefused = errors.New("refused")

// Rotate stages a new key, unless one is, and returns at once; Run does the rest. Errors may wrap [seal.ErrReadOnly].
func (c *Custodian) Rotate(ctx context.Context) (seal.State, error) {
	st, err := c.Sealer.Stage(ctx)
	c.poke()
	return st, err
}

// Retire drops the old keys from the keyset, once every replica seals with the new one and a full scan has proved that it alone opens every record.
// It returns how many it has opened. The error wraps [ErrRefused] where that is not so.
func (c *Custodian) Retire(ctx context.Context) (records int, err error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if _, err := c.Sealer.Reload(ctx); err != nil {
		return 0, err
	}
	st := c.Sealer.State()
	if len(st.Staged) > 0 {
		return 0, refuse("the new key %s does not seal yet, it waits for replicas that lack it: %s (lockstep kek status)", st.Staged[len(st.Staged)-1], strings.Join(c.Status().WaitsFor, ", "))
	}
	if len(st.Old) == 0 {
		return 0, refuse("the keyset holds one key only (%s): there is no old one", st.Primary)
	}
	late, err := c.otherwise(ctx, st.Primary)
	if err != nil {
		return 0, err
	}
	if len(late) > 0 {
		return 0, refuse("replicas still seal with an old key: %s. Bring them the keyset, or stop them (one that died is forgotten after %s)", strings.Join(late, ", "), silentFor)
	}
	if err := c.reseal(ctx); err != nil { // what a replica wrote before it had the new key
		return 0, err
	}
	records, bad, err := c.prove(ctx)
	if err != nil {
		return records, err
	}
	if len(bad) > 0 {
		return records, refuse("not every record opens with the new key: %s. Put those again or remove them; no key was dropped", strings.Join(bad, ", "))
	}
	if _, err := c.Sealer.Retire(ctx, st.Primary); err != nil {
		return records, err
	}
	c.Log.Info("the old sealing keys were dropped", "records_proved", records, "key", st.Primary.String())
	c.poke()
	return records, nil
}

func refuse(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, a...))
}

// Status is how the seal stands.
type Status struct {
	Source   string
	Keys     seal.State
	Resealed bool // every record is known to be sealed with the primary key
	Work     Work
	WaitsFor []string // replicas that lack the staged key
	Canary   error    // of its last opening
	Err      error    // of the last look
}

// Status tells from memory.
func (c *Custodian) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.Sealer.State()
	w := c.work
	w.Bad = append([]string(nil), w.Bad...)
	return Status{
		Source: c.Sealer.Source(), Keys: st, Resealed: len(st.Old) == 0 || c.finished == st.Primary, Work: w,
		WaitsFor: append([]string(nil), c.waits...), Canary: c.canary, Err: c.err,
	}
}

// SetCanary notes what opening the canary at the start said.
func (c *Custodian) SetCanary(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canary = err
}
