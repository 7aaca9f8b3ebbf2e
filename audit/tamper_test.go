package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// tampered is a store with a log of 100 lines, which was sound.
func tampered(t *testing.T) (*memory.Store, *Log, []string) {
	s := memory.New()
	l := open(t, s, nil)
	fill(t, l, 99)
	tidy(t, l)
	fill(t, l, 1)
	sound(t, l, 100)
	return s, l, archived(t, s)
}

// numbersOf returns the first and last line of a record.
func numbersOf(t *testing.T, key string) (first, last uint64) {
	t.Helper()
	first, last, ok := parseName(key)
	if !ok {
		t.Fatal(key)
	}
	return first, last
}

func TestTamperingIsFoundAndNamed(t *testing.T) {
	drop := func(t *testing.T, s store.Store, key string) {
		_, rev, err := s.Get(t.Context(), key)
		if err == nil {
			_, err = s.Swap(t.Context(), key, rev, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T, s *memory.Store, keys []string) (want string)
		only bool // nothing else may be complained of
	}{
		"a changed line": {func(t *testing.T, s *memory.Store, keys []string) string {
			first, _ := numbersOf(t, keys[1])
			edit(t, s, keys[1], func(l [][]byte) [][]byte {
				l[2] = bytes.Replace(l[2], []byte(`"me"`), []byte(`"him"`), 1)
				return l
			})
			return fmt.Sprintf("changed %d-%[1]d", first+2)
		}, true},
		"a changed last line": {func(t *testing.T, s *memory.Store, keys []string) string {
			edit(t, s, headName, func(l [][]byte) [][]byte {
				l[len(l)-1] = bytes.Replace(l[len(l)-1], []byte(`"test"`), []byte(`"tess"`), 1)
				return l
			})
			return "changed 100-100"
		}, true},
		"a line left out": {func(t *testing.T, s *memory.Store, keys []string) string {
			first, _ := numbersOf(t, keys[0])
			edit(t, s, keys[0], func(l [][]byte) [][]byte { return slices.Delete(l, 4, 5) })
			return fmt.Sprintf("missing %d-%[1]d", first+4)
		}, true},
		"the first line left out": {func(t *testing.T, s *memory.Store, keys []string) string {
			edit(t, s, keys[0], func(l [][]byte) [][]byte { return l[1:] })
			return "missing 1-1"
		}, true},
		"two lines swapped": {func(t *testing.T, s *memory.Store, keys []string) string {
			first, _ := numbersOf(t, keys[0])
			edit(t, s, keys[0], func(l [][]byte) [][]byte {
				l[5], l[6] = l[6], l[5]
				return l
			})
			return fmt.Sprintf("reordered %d-%[1]d", first+5)
		}, true},
		"a line twice": {func(t *testing.T, s *memory.Store, keys []string) string {
			first, _ := numbersOf(t, keys[0])
			edit(t, s, keys[0], func(l [][]byte) [][]byte { return slices.Insert(l, 7, l[3]) })
			return fmt.Sprintf("repeated %d-%[1]d", first+3)
		}, true},
		"a line made up": {func(t *testing.T, s *memory.Store, keys []string) string {
			first, _ := numbersOf(t, keys[0])
			edit(t, s, keys[0], func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte(`{"n":4,"mac":"x"}`)) })
			return fmt.Sprintf("inserted %d-%[1]d", first+2)
		}, true},
		"a record removed": {func(t *testing.T, s *memory.Store, keys []string) string {
			first, last := numbersOf(t, keys[1])
			drop(t, s, keys[1])
			return fmt.Sprintf("missing %d-%d", first, last)
		}, true},
		"a record under another's name": {func(t *testing.T, s *memory.Store, keys []string) string {
			text, _, err := s.Get(t.Context(), keys[0])
			if err != nil {
				t.Fatal(err)
			}
			edit(t, s, keys[1], func([][]byte) [][]byte { return split(text) })
			first, last := numbersOf(t, keys[1])
			return fmt.Sprintf("missing %d-%d", first, last)
		}, false},
		"cut off": {func(t *testing.T, s *memory.Store, _ []string) string {
			edit(t, s, headName, func(l [][]byte) [][]byte { return l[:len(l)-2] })
			return "cut-off 99-100"
		}, true},
		"the newest record removed": {func(t *testing.T, s *memory.Store, keys []string) string {
			_, last := numbersOf(t, keys[len(keys)-1])
			drop(t, s, headName)
			return fmt.Sprintf("cut-off %d-100", last+1)
		}, true},
		"all removed": {func(t *testing.T, s *memory.Store, keys []string) string {
			for _, key := range append(keys, headName) {
				drop(t, s, key)
			}
			return "cut-off 1-100"
		}, true},
		"a line of another log": {func(t *testing.T, s *memory.Store, keys []string) string {
			other := memory.New()
			key, _, err := s.Get(t.Context(), keyName)
			if err == nil {
				_, err = other.Swap(t.Context(), keyName, 0, key)
			}
			if err != nil {
				t.Fatal(err)
			}
			fill(t, open(t, other, nil), 4)
			text, _, err := other.Get(t.Context(), headName)
			if err != nil {
				t.Fatal(err)
			}
			edit(t, s, keys[0], func(l [][]byte) [][]byte {
				l[3] = split(text)[3]
				return l
			})
			return "replaced 3-4"
		}, false},
		"another log in its place": {func(t *testing.T, s *memory.Store, keys []string) string {
			for _, key := range append(keys, headName) {
				drop(t, s, key)
			}
			fill(t, open(t, s, nil), 120) // with the same key
			return "replaced 100-100"
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, l, keys := tampered(t)
			want := c.do(t, s, keys)
			r := verify(t, l)
			var got []string
			for _, p := range r.Problems {
				got = append(got, fmt.Sprintf("%s %d-%d", p.Fault, p.First, p.Last))
				if p.Words == "" {
					t.Error("no words")
				}
			}
			if !slices.Contains(got, want) || c.only && len(got) != 1 {
				t.Errorf("found %q, want %q\n%s", got, want, r.Summary())
			}
		})
	}
}

func TestARolloutIsAWitness(t *testing.T) {
	s := memory.New()
	l := open(t, s, nil)
	change := func(on Head) Head {
		t.Helper()
		h, err := l.Append(t.Context(), Entry{What: "distributing", Scope: "default", After: on.Ref()},
			Entry{What: "promoting", Scope: "default", After: on.Ref()})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := change(Head{}) // 1, 2
	lost := change(first)   // 3, 4: its swap was lost
	second := change(first) // 5, 6
	third := change(second) // 7, 8
	witness := func(h Head) Witness { return Witness{Who: "the rollout of scope default", Scope: "default", Head: h} }
	for _, h := range []Head{third, second} {
		// between the line and the swap, the rollout names the one before
		if r := verify(t, l, witness(h)); len(r.Problems) > 0 {
			t.Error(r.Summary())
		}
	}
	r := verify(t, l, witness(first))
	if len(r.Problems) != 1 || r.Problems[0].Fault != faultStale {
		t.Errorf("an old rollout: %s", r.Summary())
	}
	fresh := open(t, s, func(c *Config) { c.Replica = "r2" }) // has no mark
	edit(t, s, headName, func(l [][]byte) [][]byte { return l[:6] })
	if r := verify(t, fresh, witness(third)); len(r.Problems) != 1 || r.Problems[0].Fault != faultCutOff ||
		!strings.Contains(r.Problems[0].Words, "the rollout of scope default names line 8") {
		t.Errorf("%s", r.Summary())
	}
	lines, err := l.Lines(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(Effect(lines,
		[]Witness{witness(second)})); got != "map[1:true 2:true 3:false 4:false 5:true 6:true]" {
		t.Error(got, lost)
	}
}

func TestALogIsVerifiedWhileOthersAppend(t *testing.T) {
	s := newFaulty()
	l := open(t, s, nil)
	fill(t, l, 50)
	meanwhile := 0
	s.keys = func() { // audit/head was read, and the other records were not
		meanwhile++
		fill(t, open(t, s.Store, func(c *Config) { c.Replica = "r2" }), 100)
	}
	r := verify(t, l)
	if len(r.Problems) > 0 || r.Lines < 50 || meanwhile != 1 {
		t.Error(r.Summary(), meanwhile)
	}
	s.keys = nil
	sound(t, l, 150)
}

// What was lost shows in the chain itself for ever, whichever replica writes next.
func TestALogThatWentBackGoesOnAboveAndSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		others int // lines that a replica which knew nothing wrote meanwhile
		want   []Fault
	}{
		"we come first":              {0, []Fault{faultMissing}},
		"another replica came first": {2, []Fault{}}, "far ahead": {200, []Fault{}},
	} {
		t.Run(name, func(t *testing.T) {
			s, mark := memory.New(), temp(t, "mark")
			l := open(t, s, func(c *Config) { c.MarkFile = mark })
			fill(t, l, 8)
			yesterday, _, err := s.Get(t.Context(), headName)
			if err != nil {
				t.Fatal(err)
			}
			fill(t, l, 2)
			if err := l.marks.save(); err != nil {
				t.Fatal(err)
			}
			edit(t, s, headName, func([][]byte) [][]byte { return split(yesterday) })
			if c.others > 0 {
				fill(t, open(t, s, func(c *Config) { c.Replica = "r2" }), c.others)
			}
			l = open(t, s, func(c *Config) { c.MarkFile = mark })
			fill(t, l, 1)
			r := verify(t, open(t, s, func(c *Config) { c.Replica = "r3" }))
			var got []Fault
			for _, p := range r.Problems {
				got = append(got, p.Fault)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s", r.Summary())
			}
			lines, err := l.Lines(t.Context(), 2)
			if err != nil || lines[0].What != "audit-broken" || lines[1].What != "test" {
				t.Errorf("%+v %v", lines, err)
			}
			if err := l.marks.save(); err != nil {
				t.Fatal(err)
			}
			fill(t, open(t, s, func(c *Config) { c.MarkFile = mark }), 1)
			if lines, err = l.Lines(t.Context(), 1); err != nil ||
				lines[0].What != "test" || lines[0].Number != r.Head.Number+1 {
				t.Errorf("it was said again: %+v %v", lines, err)
			}
		})
	}
}

func TestAnEmptiedStoreKeepsTheKey(t *testing.T) {
	s := memory.New()
	l := open(t, s, nil)
	fill(t, l, 5)
	for key, err := range s.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		_, rev, _ := s.Get(t.Context(), key)
		if _, err := s.Swap(t.Context(), key, rev, nil); err != nil {
			t.Fatal(err)
		}
	}
	if h := fill(t, l, 1); h.Number != 7 {
		t.Fatal(h)
	}
	r := verify(t, open(t, s, nil)) // reads the key anew
	if len(r.Problems) != 1 || r.Problems[0].Fault != faultMissing || r.Problems[0].First != 1 ||
		r.Problems[0].Last != 5 || r.Lines != 2 {
		t.Fatal(r.Summary())
	}
}

func TestAHeadThatSomebodyChangedIsNotBuiltUpon(t *testing.T) {
	s, _, _ := tampered(t)
	edit(t, s, headName, func(l [][]byte) [][]byte {
		l[len(l)-1] = bytes.Replace(l[len(l)-1], []byte("me"), []byte("ME"), 1)
		return l
	})
	_, err := open(t, s, nil).Append(t.Context(), Entry{What: "x"})
	if !errors.Is(err, ErrUnwritten) || !errors.Is(err, ErrBroken) ||
		!strings.Contains(err.Error(), "without the audit key") {
		t.Fatal(err)
	}
}

// Replicas that die between any two writes, and conflicts, leave a chain without a fault.
func TestAnyInterruptionLeavesASoundChain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newFaulty()
		mk := func(name string) *Log {
			l, err := New(Config{Records: stored{s}, Replica: name, Log: discard})
			if err != nil {
				rt.Fatal(err)
			}
			return l
		}
		logs := []*Log{mk("r0"), mk("r1"), mk("r2")}
		why := strings.Repeat("x", 450)
		for range rapid.IntRange(1, 120).Draw(rt, "appends") {
			i := rapid.IntRange(0, 2).Draw(rt, "replica")
			dies := rapid.IntRange(0, 6).Draw(rt, "dies after so many writes")
			var n atomic.Int64 // a write that was given up goes on beside the next one
			late := rapid.Bool().Draw(rt, "what it wrote last is there")
			s.set(func(ctx context.Context, op, key string) error {
				if op != "swap" {
					return nil
				}
				if n.Add(1) != int64(dies) {
					return nil
				}
				if late {
					s.setAfter(func(string) error { return errDown })
					return nil
				}
				return errDown
			})
			if rapid.Bool().Draw(rt, "it puts lines aside") {
				for seg, ok := logs[i].shared.next(); ok &&
					logs[i].shared.putAside(context.Background(), seg) == nil; seg, ok = logs[i].shared.next() {
				}
			}
			_, err := logs[i].Append(context.Background(), Entry{What: "a", Why: why}, Entry{What: "b", Why: why})
			s.set(nil)
			s.setAfter(nil)
			if err != nil {
				logs[i] = mk(fmt.Sprint("r", i))
			}
		}
		r, err := mk("r9").Verify(context.Background(), nil)
		if err != nil || len(r.Problems) > 0 {
			rt.Fatalf("%v %s", err, r.Summary())
		}
	})
}

func FuzzDecode(f *testing.F) {
	key := bytes.Repeat([]byte{7}, keySize)
	l := Line{
		Number: 3, Chain: "store", Entry: Entry{What: "promoting", Nodes: 2, Why: "<\u2028>"},
		Replica: "r", Prev: strings.Repeat("A", macLen),
	}
	good, err := l.encode(key)
	if err != nil {
		f.Fatal(err)
	}
	good = bytes.TrimSuffix(good, []byte("\n"))
	f.Add(good)
	f.Add([]byte(`{"n":1,"mac":""}`))
	f.Add([]byte(lineStart + macStart + strings.Repeat("A", macLen) + lineEnd))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decode(key, b)
		if err == nil && !bytes.Equal(b, good) {
			t.Fatalf("forged: %q", b)
		}
		if err == nil && (got.Number != 3 || got.Why != l.Why || got.MAC != l.MAC) {
			t.Fatalf("%+v", got)
		}
		// What has the right MAC is read as it is, whatever it is: that decides nothing, but must
		// not panic.
		if body, _, ok := cutMAC(b); ok {
			signed := append(append(bytes.Clone(body), macStart...), sum(key, body)+lineEnd...)
			if line, err := decode(key, signed); err == nil && line.MAC != sum(key, body) {
				t.Fatalf("%+v", line)
			}
		}
		c := newChecker("store", key, nil)
		c.record(b, "here")
		c.end(nil)
		if h, err := ParseHead(string(b)); err == nil {
			if again, err := ParseHead(h.String()); err != nil || again != h {
				t.Fatalf("%v %v %v", h, again, err)
			}
		}
	})
}
