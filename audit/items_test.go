package audit

import (
	"context"
	"errors"
	"fmt"
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
	if err != nil || len(lines) != 2 || lines[0].Number != head.Number || lines[0].Times != 3 ||
		lines[0].Name != "a.example … c.example" {
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
	if rev, err = s.Swap(t.Context(), key, rev,
		[]byte(strings.Replace(string(good), "b.example", "x.example", 1))); err != nil {
		t.Fatal(err)
	}
	if got := faults(); !slices.Equal(got, []Fault{faultChanged}) {
		t.Errorf("another name in it: %v", got)
	}
	if _, err := l.Items(t.Context(), digest); !errors.Is(err, errChanged) {
		t.Errorf("another name in it: %v", err)
	}
	if _, err = s.Swap(t.Context(), key, rev, nil); err != nil {
		t.Fatal(err)
	}
	if got := faults(); !slices.Equal(got, []Fault{faultMissing}) {
		t.Errorf("without it: %v", got)
	}
}

// What NATS takes in one message is 1 MiB: an archive of the longest names is more.
func TestTheNamesOfALineAreBoundedInBytes(t *testing.T) {
	s := newFaulty()
	l := open(t, s, nil)
	var items []Item
	for i := range 4096 {
		items = append(items, Item{fmt.Sprintf("%0253d", i), strings.Repeat("v", 24)})
	}
	head, err := l.AppendMany(t.Context(), Entry{What: "certs-put"}, items)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := l.Lines(t.Context(), 10)
	if err != nil || len(lines) != 3 || lines[2].Number != head.Number {
		t.Fatalf("%+v %v", lines, err)
	}
	var all []Item
	for _, line := range lines {
		part, err := l.Items(t.Context(), line.Items)
		if err != nil || len(part) != line.Times ||
			line.Name != clip(part[0].Name+" … "+part[len(part)-1].Name, maxWords) {
			t.Errorf("%+v: %d items, %v", line, len(part), err)
		}
		text, _, err := s.Get(t.Context(), itemsPrefix+line.Items)
		if err != nil || len(text) > maxItems {
			t.Errorf("a record of %d bytes, %v", len(text), err)
		}
		all = append(all, part...)
	}
	if !slices.Equal(all, items) {
		t.Errorf("%d items of %d, or in another order", len(all), len(items))
	}
	sound(t, l, 3)
	if _, err := l.AppendMany(t.Context(), Entry{What: "certs-put"}, nil); err == nil {
		t.Error("a line for nothing")
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
		if _, err := l.AppendMany(t.Context(), Entry{What: "certs-put"},
			[]Item{{"a.example", broken[:8]}}); !errors.Is(err, ErrUnwritten) || !errors.Is(err, errDown) {
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
