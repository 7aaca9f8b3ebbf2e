package fleet

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// Change is what [Config.Record] writes down.
type Change struct {
	// After is what Record returned for the change on which this one builds, or "".
	After string
	Lines []rotation.Line // Lines are what is about to be done. There is at least one.
	// Keys has, for each line, the fingerprint of its key, or "" if it names none.
	Keys  []string
	Burnt []string // Burnt are the fingerprints of the keys that are burnt with it.
}

// recordedChange is the change that was written down last, and did not take effect so far.
type recordedChange struct {
	change Change
	audit  string
}

// recordChange writes the lines of next beyond the first from down, unless that was done already.
// A swap that failed is tried again, and the log is not to hold a line for each try. It returns
// what next is to be stored with.
func (t *turn) recordChange(ctx context.Context, on, next rotation.Rollout, from uint64) (audit string, err error) {
	if t.cfg.Record == nil || next.Lines <= from {
		return on.Audit, nil
	}
	news := int(min(next.Lines-from, uint64(len(next.History))))
	c := Change{After: on.Audit, Lines: next.History[len(next.History)-news:]}
	for _, l := range c.Lines {
		c.Keys = append(c.Keys, fingerprintOf(l.Key, next.Keys, on.Keys))
	}
	for _, b := range next.Burnt {
		if !slices.Contains(on.Burnt, b) {
			c.Burnt = append(c.Burnt, b)
		}
	}
	if t.recorded.audit != "" && sameChange(t.recorded.change, c) {
		return t.recorded.audit, nil
	}
	if audit, err = t.cfg.Record(ctx, t.name, c); err != nil {
		return "", fmt.Errorf("scope %s: %w: %w", t.name, ErrUnrecorded, err)
	}
	t.recorded = recordedChange{c, audit}
	return audit, nil
}

// fingerprintOf returns the fingerprint of the key with an ID, or "" if there is none.
func fingerprintOf(id string, keys ...[]rotation.Key) string {
	for _, k := range slices.Concat(keys...) {
		if k.Key.ID() == id {
			return k.Key.Fingerprint()
		}
	}
	return ""
}

// sameChange compares all but the time at which each line was decided, and how long its phase took
// by that.
func sameChange(a, b Change) bool {
	return a.After == b.After && slices.Equal(a.Keys, b.Keys) && slices.Equal(a.Burnt, b.Burnt) &&
		slices.EqualFunc(a.Lines, b.Lines, func(x, y rotation.Line) bool {
			x.At, y.At, x.Took, y.Took = time.Time{}, time.Time{}, 0, 0
			return reflect.DeepEqual(x, y)
		})
}
