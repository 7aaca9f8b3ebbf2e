package rotation

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// ErrUnrecorded: a change could not be written down, and was not made. What is published goes on being served; steps that nobody asked for are tried again.
var ErrUnrecorded = errors.New("not made, since it cannot be written down")

// Change is what [Config.Record] writes down.
type Change struct {
	After string   // what Record returned for the change on which this one builds; "" for none
	Lines []Line   // what is about to be done; at least one
	Keys  []string // for each line the fingerprint of its key; "" where it names none
	Burnt []string // fingerprints of the keys that are burnt with it
}

// record writes the lines of next beyond the first from down, unless that was done already: a swap that failed is tried again, and
// the log is not to hold a line for each try. It returns what next is to be stored with.
func (s *scope) record(ctx context.Context, on, next Rollout, from uint64) (audit string, err error) {
	if s.cfg.Record == nil || next.Lines <= from {
		return on.Audit, nil
	}
	c := Change{After: on.Audit, Lines: next.History[len(next.History)-int(min(next.Lines-from, uint64(len(next.History)))):]}
	for _, l := range c.Lines {
		print := ""
		for _, k := range slices.Concat(next.Keys, on.Keys) {
			if k.Key.ID() == l.Key {
				print = k.Key.Fingerprint()
				break
			}
		}
		c.Keys = append(c.Keys, print)
	}
	for _, b := range next.Burnt {
		if !slices.Contains(on.Burnt, b) {
			c.Burnt = append(c.Burnt, b)
		}
	}
	if s.recorded.audit != "" && sameChange(s.recorded.change, c) {
		return s.recorded.audit, nil
	}
	if audit, err = s.cfg.Record(ctx, s.name, c); err != nil {
		return "", fmt.Errorf("scope %s: %w: %w", s.name, ErrUnrecorded, err)
	}
	s.recorded = recorded{c, audit}
	return audit, nil
}

// recorded is the change that was written down last, and did not take effect so far.
type recorded struct {
	change Change
	audit  string
}

// sameChange compares all but the time at which each line was decided, and how long that makes it.
func sameChange(a, b Change) bool {
	return a.After == b.After && slices.Equal(a.Keys, b.Keys) && slices.Equal(a.Burnt, b.Burnt) &&
		slices.EqualFunc(a.Lines, b.Lines, func(x, y Line) bool {
			x.At, y.At, x.Took, y.Took = time.Time{}, time.Time{}, 0, 0
			return reflect.DeepEqual(x, y)
		})
}

// again makes a source of keys that begins with those that it made for a try which came to nothing.
func again(made *[]keysource.TicketKey, fresh func() keysource.TicketKey) func() keysource.TicketKey {
	n := 0
	return func() keysource.TicketKey {
		if n == len(*made) {
			*made = append(*made, fresh())
		}
		n++
		return (*made)[n-1]
	}
}

// Audit is what [Config.Record] returned for the last change of the scope's rollout, as this replica knows it; "" if there is none.
func (c *Coordinator) Audit(scope string) string {
	s := c.scopes[scope]
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rollout.Audit
}

// StoredAudit is the same, as it stands in the store now.
func (c *Coordinator) StoredAudit(ctx context.Context, scope string) (string, error) {
	s, err := c.find(scope)
	if err != nil {
		return "", err
	}
	val, _, err := s.cfg.Store.Get(ctx, s.ringKey())
	if errors.Is(err, store.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	r, err := decodeRollout(scope, val)
	return r.Audit, err
}
