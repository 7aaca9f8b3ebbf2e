package recorder

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/events"
)

// paper is a journal in memory, and a bus.
type paper struct {
	mu    sync.Mutex
	lines []events.Event
	sent  []events.Event
	stall chan struct{} // Append waits while it is open; nil: never
}

func (p *paper) Append(all ...events.Event) error {
	if p.stall != nil {
		<-p.stall
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, all...)
	return nil
}

func (p *paper) Sync() error { return nil }

func (p *paper) Publish(e events.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, e)
}

func (p *paper) count(kind events.Kind) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.lines {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func recorder(p *paper) *Recorder {
	return New(Config{
		Replica: "r", Journal: p, Bus: p, Watch: func(api.Line) {}, Log: slog.New(slog.DiscardHandler),
	})
}

func connected(node string) events.Event {
	return events.Event{Kind: events.NodeConnected, Node: node, Text: "node " + node + " has connected"}
}

// A node that connects a hundred times a second has three lines, and one that counts the rest.
func TestANodeThatFlapsHasFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{}
		r := recorder(p)
		go r.Run(t.Context())
		for range 5700 {
			r.Publish(connected("edge-1"))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * window)
		if n := p.count(events.NodeConnected); n != 4 {
			t.Errorf("%d lines of one node within a minute, want 3 and the count: %+v", n, p.lines)
		}
		last := p.lines[len(p.lines)-1].Text
		if !strings.Contains(last, "5697 times more in 57s") {
			t.Errorf("the count says %q", last)
		}
	})
}

// A thousand nodes that come back at once have a line each. More than the bound are counted in a
// line, and none is lost without one.
func TestAStormIsBoundedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{}
		r := recorder(p)
		go r.Run(t.Context())
		for i := range 1000 {
			r.Publish(connected(fmt.Sprintf("edge-%d", i)))
		}
		time.Sleep(time.Second)
		if n := p.count(events.NodeConnected); n != 1000 {
			t.Fatalf("%d lines of a thousand nodes", n)
		}
		const storm = 12_000
		for i := range storm {
			r.Publish(connected(fmt.Sprintf("other-%d", i)))
		}
		time.Sleep(2 * missWindow)
		told := p.count(events.NodeConnected) - 1000
		var more int
		for _, e := range p.lines {
			if e.Kind == events.Dropped {
				var n int
				fmt.Sscanf(e.Text, "node-connected happened %d times more", &n)
				more += n
			}
		}
		if told > burst || told+more != storm {
			t.Errorf("of %d there are %d lines, and %d are counted", storm, told, more)
		}
	})
}

// A disk that hangs holds up nobody who says what happened.
func TestAJournalThatHangsBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{stall: make(chan struct{})}
		r := recorder(p)
		go r.Run(t.Context())
		r.Publish(events.Event{Kind: events.CertTaken, Text: "the first, which hangs"})
		synctest.Wait()
		const n = maxWaiting + 500
		for i := range n {
			r.Publish(events.Event{Kind: events.CertTaken, Name: fmt.Sprint(i), Text: "x"})
		}
		close(p.stall)
		time.Sleep(2 * missWindow)
		if got := p.count(events.CertTaken); got != maxWaiting+1 {
			t.Errorf("%d lines, want %d", got, maxWaiting+1)
		}
		if last := p.lines[len(p.lines)-1]; last.Kind != events.Dropped ||
			!strings.Contains(last.Text, "cert-taken happened 500 times more") {
			t.Errorf("what did not fit is told as %+v", last)
		}
	})
}

// Wake-ups go out at once and with the same event. What nobody reads has no line.
func TestAWakeUpWithoutATextIsNoLine(t *testing.T) {
	p := &paper{stall: make(chan struct{})}
	defer close(p.stall)
	r := recorder(p)
	r.Publish(events.Event{Kind: events.Refused, Name: "edge-1", By: "r"})
	r.Publish(events.Event{Kind: events.Rotation, Scope: "default", Text: "scope default: ring g2 done"})
	r.Publish(connected("edge-1"))
	if len(p.sent) != 2 || p.sent[0].Kind != events.Refused || p.sent[0].Replica != "" ||
		p.sent[1].Kind != events.Rotation || p.sent[1].Replica != "r" {
		t.Errorf("sent at once: %+v", p.sent)
	}
	if len(r.waiting) != 2 {
		t.Errorf("to be recorded: %+v", r.waiting)
	}
}

func TestAProblemIsToldWhenItBeginsAndWhenItIsOver(t *testing.T) {
	var w watched
	var got []string
	record := func(e Entry) { got = append(got, string(e.Kind)+" "+e.Text) }
	began := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	now := began
	look := func(peers []string, clock string) {
		var all []api.Problem
		if clock != "" {
			p := problems.New(problems.ClockOff, "", "the clock is "+clock+" off")
			p.Since = began
			all = append(all, p)
		}
		if len(got) == 0 {
			all = append(all, problems.New(problems.EventsDown, "", "passes"))
		}
		w.look(record, all, peers, now)
		now = now.Add(5 * time.Second)
	}
	both := []string{"b"}
	look(both, "31s")
	look(both, "32s")
	look(both, "33s")
	look(nil, "")
	look(nil, "34s")
	look(both, "")
	look(both, "")
	want := []string{
		"replica-back replica b is heard of",
		"problem warning, since 2026-11-30T12:00:00Z: the clock is 32s off " +
			"(set the clock (timedatectl, chronyc tracking))",
		"replica-away replica b is not heard of any more: it has ended, or cannot write to the store",
		"replica-back replica b is heard of again",
		"problem-over over after 30s: the clock is 31s off",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is summed up, because it happened too often, is found by its hosts all the same. Those who
// subscribe get no digests of hosts.
func TestASumOfLinesHasTheirHosts(t *testing.T) {
	p := &paper{}
	r := recorder(p)
	now := time.Now()
	for i := range 10 {
		r.Publish(events.Event{Kind: events.CertTaken, Text: "many", At: now, Hosts: events.HostsOf(
			fmt.Sprintf("a-%d.example", i), fmt.Sprintf("b-%d.example", i))})
	}
	for i := range burst + 10 {
		r.Publish(events.Event{
			Kind: events.NodeRefused, Node: fmt.Sprintf("n-%d", i), Name: fmt.Sprintf("c-%d.example", i),
			Text: "no", At: now,
		})
	}
	r.write(r.take(now))
	r.write(r.flood.due(now.Add(time.Hour)))
	r.write(r.flood.due(now.Add(2 * time.Hour)))
	for _, name := range []string{"a-0.example", "b-4.example", "a-9.example", "c-4005.example"} {
		if !slices.ContainsFunc(p.lines, func(e events.Event) bool { return e.Hosts.Has(name) }) {
			t.Errorf("no line is about %s", name)
		}
	}
	for _, e := range p.sent {
		if len(e.Hosts) > 0 {
			t.Fatalf("sent: %+v", e)
		}
	}
}

func TestASettingThatChangedIsNamedAndNotShown(t *testing.T) {
	p := &paper{}
	r := recorder(p)
	file := t.TempDir() + "/settings.mark"
	for _, s := range []map[string]string{
		{"": "a", "events": "1", "refresh": "5"},
		{"": "a", "events": "2", "refresh": "5"},
		{"": "a", "events": "2", "canary": "1"},
		{"": "b", "events": "3", "canary": "2"}, // another key
		{"": "b", "events": "3", "canary": "2", "scopes.s": "1", "scopes.s.period": "2", "scopes.s-2": "1"},
		{"": "b", "events": "3", "canary": "2", "scopes.s-2": "1"},
	} {
		r.Settings(file, s)
	}
	many := map[string]string{"": "b"}
	for i := range 1000 {
		many[fmt.Sprintf("s-%04d", i)] = "x"
	}
	r.Settings(file, many)
	r.Close()
	var got []string
	for _, l := range p.lines {
		got = append(got, strings.TrimPrefix(l.Text, "the configuration has changed: "))
	}
	if len(got) != 5 || !strings.HasSuffix(got[4], ", s-0017, 983 more") ||
		!slices.Equal(got[:4], []string{"events", "canary, refresh", "scopes.s, scopes.s-2", "scopes.s"}) {
		t.Errorf("%q", got)
	}
}
