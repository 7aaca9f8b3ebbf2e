package journal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/events/journal"
)

func open(t *testing.T, c journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func texts(t *testing.T, j *journal.Journal, q journal.Query) (out []string) {
	t.Helper()
	lines, _, err := j.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return out
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func event(kind events.Kind, minute int, text string) events.Event {
	return events.Event{Kind: kind, At: noon.Add(time.Duration(minute) * time.Minute), Text: text, Replica: "r"}
}

func TestLinesAreFoundByTimeAlsoAfterARestart(t *testing.T) {
	c := journal.Config{Dir: filepath.Join(t.TempDir(), "events")}
	j := open(t, c)
	err := j.Append(event(events.CertTaken, 3, "c"), event(events.NodeAway, 1, "a"), event(events.NodeGone, 2, "b"))
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = open(t, c)
	if err := j.Append(event(events.NodeConnected, 4, "d")); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, j, journal.Query{}); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("all: %v", got)
	}
	part := journal.Query{Since: noon.Add(2 * time.Minute), Until: noon.Add(4 * time.Minute)}
	if got := texts(t, j, part); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("from 12:02 until 12:04: %v", got)
	}
	lines, _, _ := j.Query(t.Context(), journal.Query{})
	for i, l := range lines[:3] {
		if l.Seq >= lines[3].Seq {
			t.Errorf("the line after the restart has number %d, line %d has %d", lines[3].Seq, i, l.Seq)
		}
	}
}

// A page begins behind the one before it, whatever lines share a moment.
func TestPagesLeaveNothingOut(t *testing.T) {
	j := open(t, journal.Config{Dir: t.TempDir(), SegmentBytes: 2000})
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		kind := []events.Kind{events.NodeAway, events.CertTaken}[i%2]
		if err := j.Append(event(kind, i/10, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	q := journal.Query{Limit: 7}
	for more := true; more; {
		var lines []journal.Line
		var err error
		if lines, more, err = j.Query(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			got = append(got, l.Text)
		}
		place := journal.PlaceOf(lines[len(lines)-1])
		if q.After, err = journal.ParsePlace(place.String()); err != nil || q.After.Compare(place) != 0 {
			t.Fatalf("%v became %v: %v", place, q.After, err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// What is written down of nodes that come and go does not push out what else happened.
func TestItIsBoundedAndNodesPushOutNodesOnly(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir, SegmentBytes: 4000, NodeSegments: 3, Segments: 2})
	if err := j.Append(event(events.Policy, 0, "a policy")); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if err := j.Append(event(events.NodeConnected, 1, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	got := texts(t, j, journal.Query{})
	if got[0] != "a policy" || got[len(got)-1] != "499" || len(got) > 200 {
		t.Errorf("%d lines, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	var size int64
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if len(files) > 4 || size > 4*4000 {
		t.Errorf("%d files, %d bytes", len(files), size)
	}
}

// Each of these lines has the hosts of an import, which it is found by.
func TestLinesOfManyHostsDoNotPushOutWhatElseHappened(t *testing.T) {
	j := open(t, journal.Config{Dir: t.TempDir(), SegmentBytes: 20_000})
	if err := j.Append(event(events.Policy, 0, "a policy")); err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for i := range 1000 {
		hosts = append(hosts, fmt.Sprintf("h%d.example", i))
	}
	for i := range 20 {
		e := event(events.CertTaken, 1, fmt.Sprint(i))
		e.Hosts = events.HostsOf(hosts...)
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	got := texts(t, j, journal.Query{})
	if got[0] != "a policy" || got[len(got)-1] != "19" {
		t.Errorf("%d lines, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	found := texts(t, j, journal.Query{Match: func(e events.Event) bool { return e.Hosts.Has("h7.example") }})
	if len(found) != len(got)-1 {
		t.Errorf("%d of %d lines are found by a host", len(found), len(got)-1)
	}
}

// A process that is killed may leave half a line.
func TestATornLineIsCutOff(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	if err := j.Append(event(events.CertTaken, 1, "whole")); err != nil {
		t.Fatal(err)
	}
	j.Close()
	files, err := filepath.Glob(filepath.Join(dir, "others-*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], append(b, b[:len(b)/2]...), 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, journal.Config{Dir: dir})
	if err := j.Append(event(events.CertTaken, 2, "next")); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, j, journal.Query{}); !slices.Equal(got, []string{"whole", "next"}) {
		t.Errorf("%v", got)
	}
}

// A version beside or after this one may write more fields.
func TestFieldsThatAreUnknownAreNoHindrance(t *testing.T) {
	dir := t.TempDir()
	line := `{"seq":7,"kind":"later-kind","at":"2026-11-30T12:00:00Z","text":"from a later version",` +
		`"more":{"x":1}}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "others-00000000000000000007.jsonl"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, journal.Config{Dir: dir})
	if err := j.Append(event(events.CertTaken, 1, "next")); err != nil {
		t.Fatal(err)
	}
	lines, _, err := j.Query(t.Context(), journal.Query{})
	if err != nil || len(lines) != 2 || lines[0].Text != "from a later version" || lines[1].Seq != 8 {
		t.Errorf("%+v %v", lines, err)
	}
}

func TestALongTextIsCut(t *testing.T) {
	j := open(t, journal.Config{Dir: t.TempDir()})
	e := event(events.NodeRefused, 1, strings.Repeat("\x01ä", 5000))
	e.Node = strings.Repeat("n", 5000)
	if err := j.Append(e); err != nil {
		t.Fatal(err)
	}
	got := texts(t, j, journal.Query{})
	if len(got) != 1 || len(got[0]) > 1000 || !strings.HasSuffix(got[0], "…") {
		t.Errorf("%.100q…", got)
	}
}
