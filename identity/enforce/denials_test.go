package enforce

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
)

func TestDenialsInTheLogAreFew(t *testing.T) { synctest.Test(t, denialsInTheLogAreFew) }

func denialsInTheLogAreFew(t *testing.T) {
	var b strings.Builder
	told := 0
	d := NewDenials(slog.New(slog.NewTextHandler(&b, nil)), func(string, string) { told++ })
	for range 1000 {
		d.Add(Denial{Node: "edge-1", Name: "x.example"})
	}
	certificates, _, _ := d.Counts()
	if n := strings.Count(b.String(), "denied by the policy"); n < 100 ||
		n > 120 || certificates != 1000 || told != 1000 {
		t.Errorf("%d lines, %d counted, %d told", n, certificates, told)
	}
}

func TestNodesThatAreTurnedAwayAreCountedAndBounded(t *testing.T) { synctest.Test(t, turnedAway) }

func turnedAway(t *testing.T) {
	var b strings.Builder
	var audited []string
	d := NewDenials(slog.New(slog.NewTextHandler(&b, nil)), func(_, name string) { audited = append(audited, name) })
	err := d.TurnAway(Denial{Node: "edge-2", Identity: "spiffe://f/edge/1", Remote: "10.0.0.1:7"})
	for _, want := range []string{"spiffe://f/edge/1", "edge-2", "under nodes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	last, ok := d.LastTurnedAway("edge-2")
	if !ok || last.Identity != "spiffe://f/edge/1" || last.At.IsZero() || audited[0] != "node/edge-2" {
		t.Errorf("%+v %v, audited %q", last, ok, audited)
	}
	for i := range 1000 {
		d.TurnAway(Denial{Node: fmt.Sprint("n", i), Identity: "spiffe://f/edge/1"})
	}
	if _, ok := d.LastTurnedAway("edge-2"); ok || len(d.turned) != maxTurned {
		t.Errorf("%d are remembered", len(d.turned))
	}
	_, _, nodes := d.Counts()
	if n := strings.Count(b.String(), "turned away"); nodes != 1001 || n < 100 || n > 120 {
		t.Errorf("%d counted, %d lines", nodes, n)
	}
}
