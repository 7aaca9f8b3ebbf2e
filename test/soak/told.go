package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// within is how long an event may take on a busy machine. A deed may wait for several things, each
// for so long at most.
const within = 3 * time.Minute

// lately is for how long after a deed its consequences may still be told.
const lately = time.Minute

// deed is one thing that was done, with what must be found again in the events.
type deed struct {
	what      string
	at, until time.Time
	outcome
}

// outcome is what is told of a deed. The events of may are not looked for. Without a deed that
// explains them they must not be there.
type outcome struct{ want, may []expectation }

// expectation is an event. What is empty matches everything.
type expectation struct {
	kind, node, name string
	words            []string // words are all in the text.
	replica          string
	phase            string
	rotation         uint64
}

// wants is an expectation of an event of that kind about a node or name, with these words.
func wants(kind, node, name string, words ...string) expectation {
	return expectation{kind: kind, node: node, name: name, words: words}
}

// problems are those of these codes, and that they are over.
func problems(codes ...string) (all []expectation) {
	for _, code := range codes {
		all = append(all, wants("problem", "", code), wants("problem-over", "", code))
	}
	return all
}

// by is the same, told by that replica.
func (w expectation) by(replica string) expectation {
	w.replica = replica
	return w
}

// ofRotation are the steps of a rotation.
func ofRotation(rotation uint64, phases ...string) (all []expectation) {
	for _, phase := range phases {
		all = append(all, expectation{kind: "rotation", name: ring, rotation: rotation, phase: phase})
	}
	return all
}

func (w expectation) String() string {
	s := w.kind
	for _, more := range []string{w.node, w.name, w.phase, strings.Join(w.words, " … ")} {
		if more != "" {
			s += " " + more
		}
	}
	if w.rotation > 0 {
		s += fmt.Sprintf(" of rotation %d", w.rotation)
	}
	if w.replica != "" {
		s += " by replica " + w.replica
	}
	return s
}

// match reports whether e is that event. One that counts others has the words of the last of them.
func (w expectation) match(e event) bool {
	return e.Kind == w.kind && (w.node == "" || e.Node == w.node) && (w.name == "" || e.Name == w.name) &&
		(w.replica == "" || e.Replica == w.replica) && (w.phase == "" || e.Phase == w.phase) &&
		(w.rotation == 0 || e.Rotation == w.rotation) && (counts(e) ||
		!slices.ContainsFunc(w.words, func(word string) bool { return !strings.Contains(e.Text, word) }))
}

// counts reports whether e tells how often something happened more.
func counts(e event) bool { return strings.Contains(e.Text, " times more in ") }

// found reports whether e is the event of that deed. Clocks of replica and test are one. What
// happened too often for a line each is told by a later line that counts it.
func (w expectation) found(e event, d deed) bool {
	return w.match(e) && d.around(e, within)
}

// around reports whether e was told from the beginning of a deed until so long after its end.
func (d deed) around(e event, after time.Duration) bool {
	if counts(e) {
		after += 2 * time.Minute
	}
	return !e.At.Before(d.at.Truncate(time.Millisecond)) && e.At.Before(d.until.Add(after))
}

// alarming are kinds of events of which each must be explained by a deed.
var alarming = []string{
	"node-gone", "node-forgotten", "node-refused", "node-cured", "node-stuck", "node-let-go",
	"cert-refused", "cert-removed", "cert-held", "cert-back", "cert-expiring", "cert", "host",
	"policy", "config", "problem", "problem-over", "operator",
	"audit-down", "audit-back",
	"replica-started", "replica-stopping", "replica-away", "dropped",
}

// explains reports whether e is a consequence of the deed.
func (d deed) explains(e event) bool {
	is := func(w expectation) bool { return w.match(e) }
	return d.around(e, lately) && (slices.ContainsFunc(d.want, is) || slices.ContainsFunc(d.may, is))
}

// account looks for everything that was done in what each of the replicas tells, and for what is
// told and was not done. Also standstills of the machine explain something.
func (s *stage) account(ctx context.Context, done, still []deed, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last error
	var wanted, count int
	for _, p := range s.planes {
		var all []event
		err := until(ctx, func() error {
			told, err := s.events(ctx, p, done[0].at)
			if err != nil {
				return err
			}
			var errs []error
			if wanted, errs = missing(done, told); len(errs) > 0 {
				return fmt.Errorf("%s does not tell:\n%w", p.Name(), errors.Join(errs...))
			}
			all = told
			return nil
		})
		last = errors.Join(last, err)
		for _, e := range all {
			if slices.Contains(alarming, e.Kind) &&
				!slices.ContainsFunc(slices.Concat(done, still), func(d deed) bool { return d.explains(e) }) {
				last = errors.Join(last, fmt.Errorf("%s tells what nothing that was done explains: %+v", p.Name(), e))
			}
		}
		count = len(all)
	}
	say("%d things were done, and %d events of them looked for among %d at each of %d replicas; "+
		"the machine stood still %d times", len(done)-1, wanted, count, len(s.planes), len(still))
	return last
}

// missing are the events that are not among those.
func missing(done []deed, told []event) (wanted int, errs []error) {
	for _, d := range done {
		for _, want := range d.want {
			wanted++
			if !slices.ContainsFunc(told, func(e event) bool { return want.found(e, d) }) {
				errs = append(errs, fmt.Errorf("%s, at %s: %s%s", d.what, d.at.Format(time.TimeOnly), want,
					likeIt(want, d, told)))
			}
		}
	}
	return wanted, errs
}

// likeIt shows the events of that kind around the deed, for people.
func likeIt(want expectation, d deed, told []event) (s string) {
	for _, e := range told {
		if e.Kind == want.kind && d.around(e, lately) {
			s += fmt.Sprintf("\n    told: %+v", e)
		}
	}
	return s
}

// awaits waits until these events are told.
func (s *stage) awaits(ctx context.Context, since time.Time, want ...expectation) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return until(ctx, func() error {
		var told []event
		for _, p := range s.planes {
			// One that is asked alone may be away. Both are asked in the end.
			all, _ := s.events(ctx, p, since)
			told = append(told, all...)
		}
		_, errs := missing([]deed{{what: "it waits", at: since, until: time.Now(), outcome: outcome{want: want}}}, told)
		return errors.Join(errs...)
	})
}
