package enforce

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDenialsInTheLogAreFew(t *testing.T) { synctest.Test(t, denialsInTheLogAreFew) }

func denialsInTheLogAreFew(t *testing.T) {
	var b strings.Builder
	told, events, leftOut := 0, 0, 0
	d := NewDenials(DenialsConfig{
		Log: slog.New(slog.NewTextHandler(&b, nil)), Audit: func(string, string) { told++ },
		Tell: func(e Told) { events++; leftOut += int(e.LeftOut) },
	})
	for range 1000 {
		d.Add(Denial{Node: "edge-1", Name: "x.example"})
	}
	certificates, _, _ := d.Counts()
	if n := strings.Count(b.String(), "denied by the policy"); n < 100 ||
		n > 120 || certificates != 1000 || told != 1000 {
		t.Errorf("%d lines, %d counted, %d told", n, certificates, told)
	}
	time.Sleep(time.Second)
	d.Add(Denial{Node: "edge-1", Name: "x.example"})
	if events != 101 || leftOut != 900 {
		t.Errorf("%d events, which count %d others", events, leftOut)
	}
}

func TestNodesThatAreTurnedAwayAreCountedAndBounded(t *testing.T) { synctest.Test(t, turnedAway) }

func turnedAway(t *testing.T) {
	var b strings.Builder
	var audited []string
	d := NewDenials(DenialsConfig{
		Log:   slog.New(slog.NewTextHandler(&b, nil)),
		Audit: func(_, name string) { audited = append(audited, name) },
	})
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

// A node that tries again and again is turned away since its first try. Once it has not come for a
// while that is over, and the next time begins anew.
func TestANodeIsTurnedAwayAsLongAsItTries(t *testing.T) { synctest.Test(t, turnedAwayNow) }

func turnedAwayNow(t *testing.T) {
	d := NewDenials(DenialsConfig{Log: slog.New(slog.DiscardHandler), Audit: func(string, string) {}})
	began := time.Now()
	for range 10 {
		d.TurnAway(Denial{Node: "edge-2", Identity: "i"})
		time.Sleep(30 * time.Second)
	}
	now := d.TurnedAwayNow(time.Now())
	if len(now) != 1 || now[0].Node != "edge-2" || !now[0].Since.Equal(began) || now[0].Times != 10 {
		t.Errorf("%+v", now)
	}
	time.Sleep(goesOn)
	if now := d.TurnedAwayNow(time.Now()); len(now) != 0 {
		t.Errorf("it has not come for %s: %+v", goesOn, now)
	}
	d.TurnAway(Denial{Node: "edge-2", Identity: "i"})
	if now := d.TurnedAwayNow(time.Now()); len(now) != 1 || now[0].Times != 1 {
		t.Errorf("%+v", now)
	}
}
