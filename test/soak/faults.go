package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"
)

// fault does something to the stage, and says what must be told of it. In the end all is well
// again, but for what passes by itself.
type fault struct {
	name string
	do   act
}

// act is what a fault does.
type act func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error)

// allowing is an act of which also those events may be told.
func allowing(may []expectation, do act) act {
	return func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		out, err := do(ctx, s, r)
		out.may = append(out.may, may...)
		return out, err
	}
}

// faults are all.
var faults = slices.Concat(ofNodes, ofReplicas, ofServers, ofCertificates, ofFiles, ofOperators)

// runFaults does random faults until that time has passed, and then looks for each of them in the
// events. Each fault has its turn before one has its second. Between two of them it rests for at
// most so long.
func runFaults(
	ctx context.Context, s *stage, length, rest time.Duration, seed uint64, say func(string, ...any),
) error {
	r := rand.New(rand.NewPCG(seed, seed))
	say("the seed is %d", seed)
	began := time.Now()
	since := func() time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
	if err := s.settled(ctx, r); err != nil {
		return err
	}
	var still standstills
	defer still.watch(ctx, filepath.Join(s.fleet.Dir(), "standstill"))()
	done := []deed{{what: "the start", at: began, until: time.Now(), outcome: outcome{may: anything()}}}
	var turns []int
	for round := 0; round < len(faults) || time.Since(began) < length; round++ {
		if len(turns) == 0 {
			turns = r.Perm(len(faults))
		}
		f := faults[turns[0]]
		turns = turns[1:]
		at := time.Now()
		told, err := f.do(ctx, s, r)
		took := time.Since(at).Round(100 * time.Millisecond)
		if err == nil {
			err = errors.Join(s.settled(ctx, r), s.awaits(ctx, at, told.want...))
		}
		if err != nil {
			// What is told so far says more than what is missing.
			return errors.Join(fmt.Errorf("after %s: %s: %w", since(), f.name, err), s.last(ctx, at))
		}
		done = append(done, deed{f.name, at, time.Now(), told})
		say("%8s  %s: took %s, and was well after %s", since(), f.name, took,
			time.Since(at).Round(100*time.Millisecond))
		if time.Since(began) < length {
			err = sleep(ctx, time.Duration(r.Int64N(int64(rest)+1)))
		}
		if err != nil {
			return err
		}
	}
	err := s.account(ctx, done, still.deeds(), say)
	for kind, c := range s.counts() {
		say("%s: %d handshakes, %d live tickets offered at another Envoy, %d refused", kind, c.Handshakes, c.Offered,
			c.Refused)
	}
	return err
}

// anything matches every event that must be explained.
func anything() (all []expectation) {
	for _, kind := range alarming {
		all = append(all, expectation{kind: kind})
	}
	return all
}

// last is an error that holds what was told since, for people.
func (s *stage) last(ctx context.Context, since time.Time) error {
	var errs []error
	for _, p := range s.planes {
		told, err := s.events(ctx, p, since)
		errs = append(errs, err)
		for _, e := range told {
			errs = append(errs, fmt.Errorf("%s tells %s %s %s %s %s: %s", p.Name(), e.At.Format(time.TimeOnly),
				e.Replica, e.Kind, e.Node, e.Name, e.Text))
		}
	}
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// of is one of those, at random.
func of[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

// byAll are expectations that each replica tells.
func (s *stage) byAll(all ...expectation) (out []expectation) {
	for _, p := range s.planes {
		for _, w := range all {
			out = append(out, w.by(p.id()))
		}
	}
	return out
}

// other is the replica that p is not.
func (s *stage) other(p *plane) *plane {
	if s.planes[0] == p {
		return s.planes[1]
	}
	return s.planes[0]
}

// spell is a fault that lasts until the events of begins are told. Then end ends it, and that is
// told by those of ends.
func (s *stage) spell(
	ctx context.Context, begin func() error, begins []expectation, end func() error, ends []expectation,
) (out outcome, err error) {
	began := time.Now()
	if err = begin(); err == nil {
		err = s.awaits(ctx, began, begins...)
	}
	if err = errors.Join(err, end()); err == nil {
		err = s.awaits(ctx, began, ends...)
	}
	return outcome{want: slices.Concat(begins, ends)}, err
}

func nothing() error { return nil }
