package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lockstep-tls/lockstep/probe"
)

func fine(says string) cell { return cell{OK: true, Says: says} }

// sample is a report of two versions, on one of which little works.
func sample() report {
	old := no("could not find\n  the | selector")
	return report{
		Day: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), System: "linux/amd64", CPUs: 2,
		Rows: []row{
			{Version: "1.1.0", Cells: map[column]cell{
				rotates: fine("yes"), mixed: fine("yes: 8 of 8"), onDemand: old, hybrid: old,
				corpus: {Says: "not run", Why: "none"}, falseACK: fine("yes"),
			}},
			{Version: "1.2.0", Cells: map[column]cell{
				rotates: fine("yes"), mixed: fine("yes: 8 of 8"), onDemand: fine("yes"), hybrid: fine("a|b"),
				corpus: {Says: "not run", Why: "none"}, falseACK: fine("yes"),
			}},
		},
		Matrix: [][]string{{"4 of 4", "3 of 4"}, {"4 of 4", "4 of 4"}},
		Totals: []string{"TLS 1.2: 4 of 4"}, Refused: 1, Offered: 20,
	}
}

func TestThePageHasARowForEachVersionAndANoteForEachReason(t *testing.T) {
	page := string(sample().markdown())
	for _, want := range []string{
		"on 2026-01-02, on linux/amd64 with 2 CPUs",
		"| Envoy | Rotation | Mixed fleet | On demand | Hybrid | Corpus | False ACK |\n|---|---|---|---|---|---|---|\n",
		// equal reasons are one note
		"| 1.1.0 | yes | yes: 8 of 8 | no (1) | no (1) | not run (2) | yes |\n",
		"| 1.2.0 | yes | yes: 8 of 8 | yes | a\\|b | not run (2) | yes |\n",
		"1. could not find the | selector\n2. none\n",
		"| | 1.1.0 | 1.2.0 |\n|---|---|---|\n| 1.1.0 | 4 of 4 | 3 of 4 |\n| 1.2.0 | 4 of 4 | 4 of 4 |\n",
		"- TLS 1.2: 4 of 4\n- live tickets refused during the rotation: 1 of 20\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, c := range columns {
		if !strings.Contains(page, "- **"+c.name+"**: ") {
			t.Errorf("the page does not say what %s means", c.name)
		}
	}
	for line := range strings.SplitSeq(page, "\n") {
		if utf8.RuneCountInString(line) >= 100 && !strings.HasPrefix(line, "|") {
			t.Errorf("a line of %d characters: %s", utf8.RuneCountInString(line), line)
		}
	}
}

func TestTheRunFailsWhereRotationOrTheMixedFleetFails(t *testing.T) {
	if err := sample().verdict(); err != nil {
		t.Errorf("what a version cannot do is a finding and no failure: %v", err)
	}
	for _, c := range []column{rotates, mixed, corpus} {
		r := sample()
		r.Rows[1].Cells[c] = no("a reason")
		if err := r.verdict(); err == nil || !strings.Contains(err.Error(), "1.2.0: "+c.String()) {
			t.Errorf("%s: %v", c, err)
		}
	}
	r := sample()
	delete(r.Rows[0].Cells, mixed) // it was not tried
	if r.verdict() == nil {
		t.Error("a missing cell is no failure")
	}
}

func TestWhatTheCLIShouldDoFollowsFromTheCell(t *testing.T) {
	for _, test := range []struct {
		cell cell
		want string
	}{{no("a reason"), refuses}, {cell{OK: true, Says: "yes", Why: "odd"}, warns},
		{fine("yes"), takes}, {cell{}, refuses}} {
		if got := due(test.cell); got != test.want {
			t.Errorf("%+v: %s, want %s", test.cell, got, test.want)
		}
	}
}

func TestEnvoysWordsAreFoundInItsLog(t *testing.T) {
	for _, test := range []struct{ log, want string }{
		{"[2026-11-29 21:23:31.351][19743][warning][main] [source/server/server.cc:76] something else\n", ""},
		{"[2026-11-29 21:23:31.351][19743][critical][main] [source/server/server.cc:76] error initializing " +
			"configuration '/tmp/a/b.yaml': no @type 'x': {\"a\":\"b\"}\n", "no @type 'x'"},
		{"[2026-11-29 21:23:31.351][19743][critical][main] [source/server/server.cc:76] error `Unable to parse: " +
			"{\"a\":\"b\"}` and so on\n", "Unable to parse"},
		{"a\n[2026-11-29 21:23:31.351][1][warning][config] [x.cc:1] delta config for Listener rejected: " +
			"Error adding tls: none\nb\n", "delta config for Listener rejected: Error adding tls: none"},
	} {
		if got := complaint(test.log); got != test.want {
			t.Errorf("%q: %q, want %q", test.log, got, test.want)
		}
	}
}

func TestTheFirstFailureOfGoTestIsNamed(t *testing.T) {
	const failed = "--- FAIL: TestA (0.00s)\n    a_test.go:1: a reason\n--- FAIL: TestB (0.00s)\n" +
		"    b_test.go:1: b\nFAIL\n"
	if got := firstFailure(failed); got != "--- FAIL: TestA (0.00s) a_test.go:1: a reason" {
		t.Errorf("%q", got)
	}
	if got := firstFailure("# x\na.go:1: undefined: y\n"); got != "a.go:1: undefined: y" {
		t.Errorf("%q", got)
	}
}

func TestARotationIsGoodOnlyIfAllResumedAndNobodyWasRefused(t *testing.T) {
	good := func() turned { return turned{before: matrix(), after: matrix(), offered: 10} }
	if x := good(); !x.ok() || x.why() != "" {
		t.Errorf("%v, %q", x.ok(), x.why())
	}
	for name, spoil := range map[string]func(*turned){
		"nothing was offered":  func(x *turned) { x.offered = 0 },
		"a ticket was refused": func(x *turned) { x.refused = 1 },
		"a handshake failed":   func(x *turned) { x.failed = 1 },
		"none before":          func(x *turned) { x.before.Pairs = nil },
		"full afterwards":      func(x *turned) { x.after.Pairs[0].Outcome = "full" },
	} {
		x := good()
		spoil(&x)
		if x.ok() {
			t.Errorf("%s: it counts as good", name)
		}
	}
}

func matrix() probe.Matrix {
	return probe.Matrix{Pairs: []probe.Pair{{Version: 0x303, From: "a", To: "b", Outcome: probe.Resumed}}}
}
