package main

import (
	"testing"
	"time"
)

// The account misses an event that is about another node, was told before, or has other words. One
// that counts more of the same stands for it.
func TestAnEventThatIsMissingIsMissed(t *testing.T) {
	at := time.Unix(10_000, 0)
	d := deed{what: "it refuses", at: at, until: at.Add(time.Second), outcome: outcome{
		want: []expectation{wants("node-refused", "edge-1", ring, "for the test").by("a")},
	}}
	good := event{
		At: at.Add(2 * time.Second), Kind: "node-refused", Node: "edge-1", Name: ring, Replica: "a",
		Text: "it refused, for the test",
	}
	change := func(f func(*event)) event { e := good; f(&e); return e }
	for what, c := range map[string]struct {
		told  event
		found bool
	}{
		"as it was":       {good, true},
		"another node":    {change(func(e *event) { e.Node = "edge-2" }), false},
		"another kind":    {change(func(e *event) { e.Kind = "node-away" }), false},
		"another replica": {change(func(e *event) { e.Replica = "b" }), false},
		"other words":     {change(func(e *event) { e.Text = "it refused" }), false},
		"before":          {change(func(e *event) { e.At = at.Add(-time.Second) }), false},
		"long after":      {change(func(e *event) { e.At = d.until.Add(within) }), false},
		"a count":         {change(func(e *event) { e.Text = "2 times more in 3s; the last: x" }), true},
	} {
		if _, errs := missing([]deed{d}, []event{c.told}); (len(errs) == 0) != c.found {
			t.Errorf("%s: %v", what, errs)
		}
	}
}

func TestWhatNothingExplainsIsFound(t *testing.T) {
	at := time.Unix(10_000, 0)
	d := deed{what: "the store hangs", at: at, until: at.Add(time.Second), outcome: outcome{
		want: []expectation{wants("problem", "", "store-down")},
		may:  []expectation{wants("problem", "", "events-down")},
	}}
	for what, c := range map[string]struct {
		told      event
		explained bool
	}{
		"wanted":          {event{At: at, Kind: "problem", Name: "store-down"}, true},
		"allowed":         {event{At: at, Kind: "problem", Name: "events-down"}, true},
		"of another kind": {event{At: at, Kind: "node-gone", Node: "edge-1"}, false},
		"of another code": {event{At: at, Kind: "problem", Name: "clock-off"}, false},
		"long after":      {event{At: d.until.Add(lately), Kind: "problem", Name: "store-down"}, false},
		"before it":       {event{At: at.Add(-time.Second), Kind: "problem", Name: "store-down"}, false},
		"a count": {
			event{At: d.until.Add(lately), Kind: "problem", Name: "store-down", Text: "1 times more in 1s"}, true,
		},
	} {
		if got := d.explains(c.told); got != c.explained {
			t.Errorf("%s: explained %v", what, got)
		}
	}
}
