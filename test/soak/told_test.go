package main

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
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

// A kind that the account does not know would be told without a deed, and nobody would notice.
func TestTheAccountKnowsEveryKindOfEvent(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../events/events.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Kind" {
				kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				kinds = append(kinds, kind)
			}
		}
		return true
	})
	if len(kinds) < 30 {
		t.Fatalf("found only %q", kinds)
	}
	slices.Sort(kinds)
	known := slices.Sorted(slices.Values(slices.Concat(alarming, harmless)))
	if !slices.Equal(kinds, known) {
		t.Errorf("events has %q, the account knows %q", kinds, known)
	}
}

// A replica that hangs is asked, too, and what the other one tells meanwhile counts at once.
func TestOneThatHangsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := hears(t.Context(), []func(context.Context) []event{
			func(ctx context.Context) []event {
				<-ctx.Done()
				return nil
			},
			func(context.Context) []event {
				if time.Since(began) < 3*askEvery {
					return nil
				}
				return []event{{Kind: "replica-away"}}
			},
		}, func(told []event) error {
			if len(told) == 0 {
				return errors.New("nothing is told")
			}
			return nil
		})
		if took := time.Since(began); err != nil || took != 3*askEvery {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// While a replica hangs for long the other one may say that it is missing, and nothing else.
func TestTheOtherReplicaMayCallOneMissing(t *testing.T) {
	s := &stage{planes: []*plane{planeNamed(t, "a"), planeNamed(t, "b")}}
	d := deed{at: time.Unix(10_000, 0), until: time.Unix(10_060, 0), outcome: outcome{may: s.cutOff(s.planes[0])}}
	for _, c := range []struct {
		kind, code, by string
		explained      bool
	}{
		{"problem", "replica-missing", "b", true},
		{"problem-over", "replica-missing", "b", true},
		{"problem", "replica-unreachable", "b", true},
		{"problem", "store-down", "a", true},
		{"problem", "store-down", "b", false},
	} {
		e := event{At: d.at, Kind: c.kind, Name: c.code, Replica: c.by}
		if got := d.explains(e); got != c.explained {
			t.Errorf("%+v: explained %v", c, got)
		}
	}
}

// A short standstill does not explain everything that is told in the minute after it.
func TestAStandstillExplainsLittle(t *testing.T) {
	at := time.Unix(10_000, 0)
	for _, c := range []struct {
		length, after time.Duration
		kind, name    string
		explained     bool
	}{
		{time.Second, 5 * time.Second, "problem", "store-down", true},
		{time.Second, 5 * time.Second, "node-gone", "", true},
		{time.Second, 40 * time.Second, "problem-over", "store-down", true},
		{time.Second, 40 * time.Second, "problem", "store-down", false},
		{time.Second, 5 * time.Second, "problem", "ring-refused", false},
		{time.Second, 5 * time.Second, "problem-over", "ring-refused", false},
		{time.Second, 5 * time.Second, "problem", "replica-missing", false},
		{20 * time.Second, 5 * time.Second, "problem", "replica-missing", true},
	} {
		ended := at.Add(c.length)
		e := event{At: ended.Add(c.after), Kind: c.kind, Name: c.name}
		got := slices.ContainsFunc(standstill(at, ended), func(d deed) bool { return d.explains(e) })
		if got != c.explained {
			t.Errorf("%+v: explained %v", c, got)
		}
	}
}

// planeNamed is a replica that does not run.
func planeNamed(t *testing.T, id string) *plane {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "replica"), []byte(id+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &plane{Lockstepd: &fleet.Lockstepd{}}
	p.Data = dir
	return p
}
