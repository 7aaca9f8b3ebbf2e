package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestLinesFollowEachOtherThroughRecordsAndRestarts(t *testing.T) {
	s := newFaulty()
	l := open(t, s, nil)
	fill(t, l, 100)
	again := open(t, s, nil)
	if head := fill(t, again, 100); head.Number != 200 || head.Chain != "store" {
		t.Fatal(head)
	}
	sound(t, again, 200)
	keys := archived(t, s)
	if len(keys) < 4 {
		t.Fatalf("only %d records were put aside", len(keys))
	}
	if s.swaps > 200+len(keys)+3 {
		t.Errorf("200 lines took %d writes", s.swaps)
	}
	for _, key := range append(keys, headName) {
		limit := segmentMax
		if key == headName {
			limit = headMax
		}
		if text, _, err := s.Get(t.Context(), key); err != nil || len(text) > limit {
			t.Errorf("%s has %d bytes: %v", key, len(text), err)
		}
	}
	lines, err := l.Lines(t.Context(), 150)
	if err != nil || len(lines) != 150 || lines[0].Number != 51 || lines[149].Number != 200 ||
		lines[149].Replica != "r1" || lines[149].Actor != "me" {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
}

func TestALineHoldsWhatWasSaidAndIsBounded(t *testing.T) {
	l := open(t, memory.New(), nil)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	long := strings.Repeat("\"\\", 5000) + "\x00\u2028<&>"
	e := Entry{
		At: at, Actor: "a\xffb\x1b<\u2028ä", What: "promoting", Scope: long, Name: long, After: long, Key: long,
		Generation: 7, Rotation: 3, Nodes: 5000, Took: time.Second, Why: long,
	}
	for i := range 5000 {
		e.LeftBehind = append(e.LeftBehind, fmt.Sprintf("node-%d", i))
		e.WaitedFor = append(e.WaitedFor, long)
		e.Burnt = append(e.Burnt, long)
	}
	if _, err := l.Append(t.Context(), e, Entry{What: "next"}); err != nil {
		t.Fatal(err)
	}
	sound(t, l, 2)
	lines, err := l.Lines(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	got := lines[0]
	if !got.At.Equal(at) || got.Actor != "a\uFFFDb\uFFFD<\uFFFDä" || got.Generation != 7 || got.Nodes != 5000 ||
		got.Took != time.Second || len(got.Why) > maxWords || !strings.HasSuffix(got.Why, "…") {
		t.Errorf("%+v", got)
	}
	if len(got.LeftBehind) != maxNames+1 || got.LeftBehind[maxNames] != "and 4980 more" {
		t.Error(got.LeftBehind)
	}
	if got.Of != 2 || lines[1].Of != 2 || lines[1].At.IsZero() {
		t.Errorf("the second line of one change: %+v", lines[1])
	}
}

func TestTwoReplicasAppendToOneChain(t *testing.T) {
	s := memory.New()
	a, b := open(t, s, nil), open(t, s, func(c *Config) { c.Replica = "r2" })
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	const workers, each = 8, 25
	for w := range workers {
		l := []*Log{a, b}[w%2]
		wg.Go(func() {
			for range each {
				h, err := l.Append(t.Context(), Entry{What: "one"}, Entry{What: "two"})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[h.Number] {
					t.Errorf("line %d was given twice", h.Number)
				}
				seen[h.Number] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, l := range []*Log{a, b} {
		sound(t, l, 2*workers*each)
	}
	lines, err := a.Lines(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]int{}
	for _, line := range lines {
		by[line.Replica]++
	}
	if by["r1"] != workers*each || by["r2"] != workers*each {
		t.Error(by)
	}
}

func TestASinkThatHangsCountsAsDown(t *testing.T) {
	for _, deaf := range []bool{false, true} { // deaf: it does not even heed its context
		t.Run(fmt.Sprint("deaf ", deaf), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				s.deaf = deaf
				l := open(t, s, nil)
				fill(t, l, 1)
				release := make(chan struct{})
				s.set(func(ctx context.Context, op, _ string) error {
					if op != "swap" {
						return nil
					}
					if deaf {
						<-release
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				})
				for range 3 {
					began := time.Now()
					_, err := l.Append(t.Context(), Entry{What: "x"})
					if took := time.Since(began); !errors.Is(err, ErrUnwritten) || took != within {
						t.Fatalf("after %s: %v", took, err)
					}
				}
				if d := l.Degraded(); len(d) != 1 || !strings.Contains(d[0].Error(), "store") {
					t.Error(d)
				}
				if c := l.Counts(); c.Refused != 3 || c.Failed["store"] != 3 || c.Lines != 1 {
					t.Errorf("%+v", c)
				}
				s.set(nil)
				close(release)
				synctest.Wait()
				fill(t, l, 1)
				if d := l.Degraded(); len(d) > 0 {
					t.Error(d)
				}
				want := uint64(3) // lines; one tells of those that were refused
				if deaf {
					want = 4 // the first that hung was written in the end: an intent without effect
				}
				sound(t, l, want)
			})
		})
	}
}

func TestOneSinkIsEnough(t *testing.T) {
	s, file := newFaulty(), temp(t, "audit.log")
	l := open(t, s, func(c *Config) { c.File = file })
	if h := fill(t, l, 3); h.Ref() != "3@store" {
		t.Fatal(h)
	}
	s.set(down)
	if h := fill(t, l, 2); h.Ref() != "5@file/r1" {
		t.Fatal(h)
	}
	if d := l.Degraded(); len(d) != 1 || !strings.Contains(d[0].Error(), "store") || !errors.Is(d[0], errDown) {
		t.Error(d)
	}
	s.set(nil)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if h := fill(t, l, 1); h.Ref() != "5@store" { // the fourth tells of what is missing there
		t.Fatal(h)
	}
	if d := l.Degraded(); len(d) != 1 || !strings.Contains(d[0].Error(), "file") {
		t.Error(d)
	}
	s.set(down)
	if _, err := l.Append(t.Context(), Entry{What: "x"}); !errors.Is(err, ErrUnwritten) || !errors.Is(err, errDown) {
		t.Error(err)
	}
}

func TestAFileIsAChainOfItsOwn(t *testing.T) {
	s, file, mark := memory.New(), temp(t, "audit.log"), temp(t, "audit.mark")
	with := func(c *Config) { c.File, c.MarkFile = file, mark }
	check := func(l *Log, b []byte, want string) {
		t.Helper()
		rs, err := l.VerifyLines(t.Context(), bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range rs {
			got += r.Summary() + "\n"
		}
		if !strings.Contains(got, want) {
			t.Fatalf("%s\nwant %q", got, want)
		}
	}
	read := func() []byte {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l := open(t, s, with)
	fill(t, l, 3)
	if err := l.marks.save(); err != nil {
		t.Fatal(err)
	}
	l = open(t, s, with)
	fill(t, l, 2)
	whole := read()
	check(l, whole, "file/r1: 5 lines, each as it was written, none missing")
	if n := strings.Count(string(whole), "\n"); n != 5 {
		t.Fatalf("%d lines", n)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(whole)), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	check(l, bytes.ReplaceAll(whole, []byte(lineStart), []byte("<85>Jan  2 host lockstep-audit[1]: "+lineStart)),
		"file/r1: 5 lines, each as it was written, none missing")
	lines := bytes.SplitAfter(whole, []byte("\n"))
	check(l, bytes.Join(lines[:4], nil), "the log ends with line 4, and the high-water mark of replica r1 names line 5")
	check(l, bytes.Join(lines[2:], nil), "lines 1 to 2 are missing")
	check(l, bytes.Replace(whole, []byte(`"me"`), []byte(`"ME"`), 1),
		"line 1 in line 1 of the file is not as it was written")
	check(l, append(bytes.Clone(whole), bytes.Repeat([]byte("z"), 5*maxLine)...),
		"line 6 in line 6 of the file is not as it was written")

	// Moved away, as logrotate does: the chain goes on in the next file.
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1)
	check(l, read(), "lines 1 to 5 are missing")
	check(l, append(bytes.Clone(whole), read()...), "file/r1: 6 lines, each as it was written, none missing")

	// A crash left a piece of a line: it stays, and the next one begins on its own.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"n":7,"ch`)
	f.Close()
	l = open(t, s, with)
	fill(t, l, 1)
	check(l, append(bytes.Clone(whole), read()...),
		"behind line 6, line 7 of the file has bytes that were never written as a line")
}

func TestSyslogGetsEachLine(t *testing.T) {
	path := temp(t, "sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := newFaulty()
	l := open(t, s, func(c *Config) { c.Syslog = "unix:" + path })
	fill(t, l, 2)
	s.set(down)
	if h := fill(t, l, 1); h.Ref() != "3@syslog/r1" {
		t.Fatal(h)
	}
	var all bytes.Buffer
	for range 3 {
		b := make([]byte, maxLine)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b[:n])
	}
	rs, err := l.VerifyLines(t.Context(), &all)
	if err != nil || len(rs) != 1 || len(rs[0].Problems) > 0 || rs[0].Lines != 3 {
		t.Fatalf("%+v %v", rs, err)
	}
	for _, bad := range []string{"", "udp://127.0.0.1:514", "unix:", "nonsense"} {
		if err := CheckSyslog(bad); err == nil {
			t.Errorf("%q was let through", bad)
		}
	}
}

func TestTheKeyOutlivesTheSealingKeyAndIsNeverReplacedInSilence(t *testing.T) {
	s := memory.New()
	fill(t, open(t, s, nil), 1)
	_, rev, err := s.Get(t.Context(), keyName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Swap(t.Context(), keyName, rev, nil); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, s, nil).Append(t.Context(), Entry{What: "x"})
	if !errors.Is(err, ErrUnwritten) || !strings.Contains(err.Error(), "audit/key") {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), keyName); !errors.Is(err, store.ErrNotExist) {
		t.Fatal(err)
	}
}

// A forbidden access must not hold up a stream, nor let anybody fill the store.
func TestForbiddenNeverBlocksAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		l := open(t, s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		began := time.Now()
		for i := range 100_000 {
			l.Forbidden("spiffe://a", fmt.Sprint("n", i))
		}
		l.Forbidden("spiffe://b", "x.example")
		if time.Since(began) > 0 {
			t.Error("it blocked")
		}
		synctest.Wait()
		lines, err := l.Lines(t.Context(), 1000)
		if err != nil || len(lines) != strangerBurst+1 {
			t.Fatalf("%d lines: %v", len(lines), err)
		}
		if last := lines[strangerBurst]; last.Actor != "spiffe://b" || last.Name != "x.example" ||
			last.What != "forbidden" || last.Times != 0 {
			t.Errorf("%+v", last)
		}
		time.Sleep(strangerEvery)
		l.Forbidden("spiffe://a", "last")
		synctest.Wait()
		if lines, err = l.Lines(t.Context(), 1); err != nil || lines[0].Name != "last" ||
			lines[0].Times != 100_000-strangerBurst+1 {
			t.Fatalf("%+v %v", lines, err)
		}
		for i := range 10 * maxStrangers {
			l.Forbidden(fmt.Sprint("spiffe://", i), "x")
		}
		if n := len(l.strangers.by); n > maxStrangers {
			t.Errorf("%d identities are kept", n)
		}
		l.Forbidden("late", "x")
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if lines, err = l.Lines(t.Context(), 10_000); err != nil || len(lines) > strangerBurst+2+everyBurst+maxBatch {
			t.Errorf("%d lines: %v", len(lines), err)
		}
	})
}
