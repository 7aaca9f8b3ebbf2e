package audit

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func changeLast(b []byte) []byte {
	return bytes.Replace(b, []byte("reason 39"), []byte("reason 38"), 1)
}

func changeFirst(b []byte) []byte { return bytes.Replace(b, []byte(`{"n":`), []byte(`{"m":`), 1) }

func cutLine(b []byte) []byte { return b[:len(b)-9] }

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func grown(b []byte) []byte { return append(bytes.Clone(b), 'x') }

// Whatever is damaged, no line follows it, and the error names the way out; once it is mended lines
// follow again, above all that was known, and the break is found for ever.
func TestADamagedHeadIsMendedAndTheBreakStaysNamed(t *testing.T) {
	for name, c := range map[string]struct {
		key    string
		damage func([]byte) []byte
		sealed bool // what stands in the store is damaged, else what was sealed
		again  bool // the log is opened again before it is mended: nobody remembers its key
		want   string
	}{
		"the last line":            {headName, changeLast, false, true, "1 lines of audit/head"},
		"the first line":           {headName, changeFirst, false, true, "1 lines of audit/head"},
		"cut off in a line":        {headName, cutLine, false, true, "1 lines of audit/head"},
		"a flipped record":         {headName, flipped, true, true, "audit/head did not open"},
		"the key, which is known":  {keyName, flipped, true, false, "audit/key was damaged, and was put back"},
		"the key":                  {keyName, flipped, true, true, "audit/key was lost"},
		"the key, which has grown": {keyName, grown, false, true, "audit/key was lost"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := seal.LoadOrCreate(t.Context(), seal.File(filepath.Join(t.TempDir(), "key")))
			if err != nil {
				t.Fatal(err)
			}
			raw, mark := memory.New(), temp(t, "mark")
			sealed := guard.Sealed(raw, keys)
			l := open(t, sealed, func(c *Config) { c.MarkFile = mark })
			if _, err := l.Mend(t.Context(), "alice", nil); !errors.Is(err, ErrSound) {
				t.Errorf("an empty store: %v", err)
			}
			before := fill(t, l, 40)
			if err := l.marks.save(); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Mend(t.Context(), "alice", nil); !errors.Is(err, ErrSound) {
				t.Errorf("a sound log: %v", err)
			}
			sound(t, l, 40)
			in := sealed
			if c.sealed {
				in = raw
			}
			val, rev, err := in.Get(t.Context(), c.key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Swap(t.Context(), c.key, rev, c.damage(val)); err != nil {
				t.Fatal(err)
			}
			if c.again {
				l = open(t, sealed, func(c *Config) { c.MarkFile = mark })
				if _, err := l.Append(t.Context(), Entry{What: "x"}); !errors.Is(err, ErrUnwritten) ||
					!errors.Is(err, ErrBroken) {
					t.Errorf("a line follows, or no way out is named: %v", err)
				}
				if _, whole, err := l.Newest(t.Context(), 10); err == nil && whole {
					t.Error("the log is called whole")
				}
			}
			h, err := l.Mend(t.Context(), "alice",
				[]Witness{{Who: "w", Head: Head{Chain: sharedChain, Number: 50, MAC: before.MAC}}})
			if err != nil || h.Number != 52 {
				t.Fatalf("%v %v", h, err)
			}
			missed := 0 // of the line that tells of the one that was refused
			if c.again {
				missed = 1
			}
			after := fill(t, l, 1)
			if after.Number != uint64(53+missed) {
				t.Error(after)
			}
			after = fill(t, open(t, sealed, func(c *Config) { c.Replica = "r2" }), 1)
			if after.Number != uint64(54+missed) {
				t.Error(after)
			}
			lines, err := l.Lines(t.Context(), 3+missed)
			if err != nil || len(lines) != 3+missed || lines[0].What != "audit-broken" || lines[0].Actor != "alice" ||
				!strings.Contains(lines[0].Why, c.want) {
				t.Fatalf("%+v %v", lines, err)
			}
			tidy(t, l)
			fill(t, l, 200)
			named := false
			for _, p := range verify(t, open(t, sealed, nil)).Problems {
				named = named || p.Fault == faultMissing && p.First <= 51 && p.Last >= 51
			}
			if !named {
				t.Errorf("the break is not found: %s", verify(t, l).Summary())
			}
			if _, err := l.Mend(t.Context(), "alice", nil); !errors.Is(err, ErrSound) {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func TestNewestTellsWhetherThatIsAll(t *testing.T) {
	s := memory.New()
	l := open(t, s, nil)
	if lines, whole, err := l.Newest(t.Context(), 5); err != nil || !whole || len(lines) != 0 {
		t.Fatalf("an empty log: %d lines, %t, %v", len(lines), whole, err)
	}
	fill(t, l, 150)
	tidy(t, l)
	for _, n := range []int{5, 100, 150, 1000} {
		if lines, whole, err := l.Newest(t.Context(), n); err != nil || !whole || len(lines) != min(n, 150) {
			t.Errorf("of %d: %d lines, %t, %v", n, len(lines), whole, err)
		}
	}
	edit(t, s, headName, func(l [][]byte) [][]byte { return append(l[:len(l)-2:len(l)-2], l[len(l)-1]) })
	if _, whole, _ := l.Newest(t.Context(), 5); whole {
		t.Error("a line is missing in the middle")
	}
	edit(t, s, headName, func(l [][]byte) [][]byte { return l[:len(l)-2] })
	if _, whole, _ := l.Newest(t.Context(), 5); whole {
		t.Error("lines are missing at the end")
	}
}
