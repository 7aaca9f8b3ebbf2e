package recorder

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
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
	err   error         // err is what Append returns.
}

func (p *paper) full(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *paper) Append(all ...events.Event) error {
	if p.stall != nil {
		<-p.stall
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
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

// A disk that hangs holds up nobody who says what happened, and nobody who is told. What the record
// lacks is counted in it.
func TestAJournalThatHangsBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{stall: make(chan struct{})}
		r := recorder(p)
		watched := 0
		r.cfg.Watch = func(api.Line) { watched++ }
		go r.Run(t.Context())
		r.Publish(events.Event{Kind: events.CertTaken, Text: "the first, which hangs"})
		synctest.Wait()
		const n = 2*maxWaiting + 500
		for i := range n {
			r.Publish(events.Event{Kind: events.CertTaken, Name: fmt.Sprint(i), Text: "x"})
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if len(p.sent) != n+1 || watched != n+1 {
			t.Errorf("of %d events %d went to other processes, and %d to those who watch", n+1, len(p.sent), watched)
		}
		close(p.stall)
		time.Sleep(2 * missWindow)
		synctest.Wait()
		if got := p.count(events.CertTaken); got != maxWaiting+1 {
			t.Errorf("%d lines, want %d", got, maxWaiting+1)
		}
		if last := p.lines[len(p.lines)-1]; last.Kind != events.Dropped ||
			!strings.Contains(last.Text, fmt.Sprintf("lacks at most %d × cert-taken", n-maxWaiting)) {
			t.Errorf("what did not fit is told as %+v", last)
		}
	})
}

// What could not be written is counted by kind, in one line, once the disk takes lines again.
func TestWhatAFullDiskDidNotTakeIsCountedInTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paper{}
		r := recorder(p)
		go r.Run(t.Context())
		r.Publish(connected("edge-1"))
		synctest.Wait()
		p.full(errors.New("no space left on device"))
		r.Publish(connected("edge-2"))
		synctest.Wait()
		r.Publish(connected("edge-3"))
		r.Publish(events.Event{Kind: events.CertTaken, Text: "x"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(p.sent) != 4 || len(r.Problems()) != 1 {
			t.Errorf("%d were sent, problems %+v", len(p.sent), r.Problems())
		}
		p.full(nil) // no event has to come
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(p.lines) != 2 || len(r.Problems()) != 0 {
			t.Fatalf("%+v, problems %+v", p.lines, r.Problems())
		}
		if e := p.lines[1]; e.Kind != events.Dropped || e.Replica != "r" ||
			e.Text != "the record could not be written for 1m1s, and lacks at most 1 × cert-taken, 2 × node-connected" {
			t.Errorf("%+v", e)
		}
		r.Publish(connected("edge-4"))
		time.Sleep(time.Minute)
		if n := p.count(events.Dropped); n != 1 {
			t.Errorf("it is told %d times", n)
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

func TestAProblemThatGetsMoreSevereIsToldAgain(t *testing.T) {
	var w watched
	var got []string
	record := func(e Entry) { got = append(got, string(e.Kind)+" "+strings.SplitN(e.Text, ",", 2)[0]) }
	for _, severity := range strings.Fields("warning warning critical warning critical warning warning critical") {
		p := problems.New(problems.NotRenewed, "", "x")
		p.Severity = api.Severity(severity)
		w.look(record, []api.Problem{p}, nil, time.Now())
	}
	want := []string{"problem warning", "problem critical", "problem critical"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProblemsThatAreNotFollowedAreCounted(t *testing.T) {
	var w watched
	var got []string
	record := func(e Entry) {
		if e.Name == "" {
			got = append(got, strings.SplitN(e.Text, ":", 2)[0])
		}
	}
	for _, n := range []int{103, 103, 105, 106, 106, 1, 1, 1} {
		var all []api.Problem
		for i := range n {
			all = append(all, problems.New(problems.StoreDown, fmt.Sprint(i), "x"))
		}
		w.look(record, all, nil, time.Now())
	}
	want := []string{"3 more problems are not followed here", "6 more problems are not followed here"}
	if !slices.Equal(got, want) || len(w.problems) != 1 {
		t.Errorf("%q, want %q; %d are followed", got, want, len(w.problems))
	}
}

// What is over after a restart is told as over, and what stands is not told again.
func TestAProblemThatWasToldBeforeARestartIsToldWhenItIsOver(t *testing.T) {
	began := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	file := t.TempDir() + "/told.mark"
	var got []string
	now := began
	run := func(looks ...string) {
		w := recorder(&paper{}).resume(file, now)
		for _, codes := range looks {
			var all []api.Problem
			for code := range strings.FieldsSeq(codes) {
				p := problems.New(code, "", code+" stands")
				p.Since = began
				all = append(all, p)
			}
			w.look(func(e Entry) { got = append(got, string(e.Kind)+" "+e.Name) }, all, nil, now)
			now = now.Add(30 * time.Second)
			w.keep()
		}
	}
	const both = problems.StoreDown + " " + problems.ReplicaMissing
	run(both, both, problems.ClockOff+" "+both) // the clock was seen once, and is not told
	// It takes a while until it is known again that a replica is missing.
	run("", "", problems.ReplicaMissing, problems.ReplicaMissing)
	run("", "", "")
	run("", "", "", "", "")
	run("", "", "")
	want := []string{
		"problem store-down", "problem replica-missing", "problem-over store-down", "problem-over replica-missing",
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if err := os.WriteFile(file, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("", "")
	if len(got) != len(want) {
		t.Errorf("of a file that cannot be read: %q", got[len(want):])
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
	r.tell(r.take(now))
	r.tell(r.flood.due(now.Add(time.Hour)))
	r.tell(r.flood.due(now.Add(2 * time.Hour)))
	r.write()
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
