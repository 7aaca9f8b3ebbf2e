package audit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

func TestOneLineStandsForManyAndItsNamesAreProved(t *testing.T) {
	s := newFaulty()
	l := open(t, s, nil)
	items := []Item{{"a.example", "v1"}, {"b.example", ""}, {"c.example", "v3"}}
	head, err := l.AppendMany(t.Context(), Entry{Actor: "me", What: "certs-put"}, items)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendMany(t.Context(), Entry{Actor: "me", What: "certs-put"}, items); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	lines, err := l.Lines(t.Context(), 10)
	if err != nil || len(lines) != 2 || lines[0].Number != head.Number || lines[0].Times != 3 || lines[0].Name != "a.example … c.example" {
		t.Fatalf("%+v %v", lines, err)
	}
	digest := lines[0].Items
	if got, err := l.Items(t.Context(), digest); err != nil || !slices.Equal(got, items) {
		t.Errorf("%v %v", got, err)
	}
	faults := func() (all []Fault) {
		r, err := l.Verify(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Problems {
			if all = append(all, p.Fault); !strings.Contains(p.Words, digest) {
				t.Errorf("%+v does not name the record", p)
			}
		}
		return all
	}
	if got := faults(); got != nil {
		t.Errorf("as it was written: %v", got)
	}
	key := itemsPrefix + digest
	good, rev, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if rev, err = s.Swap(t.Context(), key, rev, []byte(strings.Replace(string(good), "b.example", "x.example", 1))); err != nil {
		t.Fatal(err)
	}
	if got := faults(); !slices.Equal(got, []Fault{Changed}) {
		t.Errorf("another name in it: %v", got)
	}
	if _, err := l.Items(t.Context(), digest); !errors.Is(err, errChanged) {
		t.Errorf("another name in it: %v", err)
	}
	if _, err = s.Swap(t.Context(), key, rev, nil); err != nil {
		t.Fatal(err)
	}
	if got := faults(); !slices.Equal(got, []Fault{Missing}) {
		t.Errorf("without it: %v", got)
	}
}

func TestWithoutTheNamesThereIsNoLine(t *testing.T) {
	s := newFaulty()
	l := open(t, s, nil)
	for _, broken := range []string{itemsPrefix, headName} {
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && strings.HasPrefix(key, broken) {
				return errDown
			}
			return nil
		})
		if _, err := l.AppendMany(t.Context(), Entry{What: "certs-put"}, []Item{{"a.example", broken[:8]}}); !errors.Is(err, ErrUnwritten) || !errors.Is(err, errDown) {
			t.Errorf("%s: %v", broken, err)
		}
	}
	s.set(nil)
	if lines, err := l.Lines(t.Context(), 10); err != nil || len(lines) != 0 {
		t.Errorf("%v %v", lines, err)
	}
	if _, err := l.Items(t.Context(), "none"); !errors.Is(err, store.ErrNotExist) {
		t.Error(err)
	}
}
