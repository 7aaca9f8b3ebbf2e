package expiry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// After any changes First has what comes first when all are sorted.
func TestFirstKeepsThoseThatComeFirst(t *testing.T) {
	const most = 20
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f, all := NewFirst(most, ByEnd), map[string]Span{}
	rebuild := func() {
		f = NewFirst(most, ByEnd)
		for name, s := range all {
			f.Put(name, s)
		}
	}
	thin := 0
	for range 20_000 {
		name := fmt.Sprint("n", rand.N(200))
		if rand.N(3) > 0 {
			f.Drop(name)
			delete(all, name)
		} else {
			all[name] = Span{begin, begin.Add(time.Duration(rand.N(100)) * time.Hour)}
			f.Put(name, all[name])
		}
		if f.Thin() {
			thin++
			rebuild()
		}
		var want []Named
		for name, s := range all {
			want = append(want, Named{name, s})
		}
		slices.SortFunc(want, f.compare)
		if len(f.All()) > most || len(f.has) != len(f.list) {
			t.Fatalf("%d are kept, %d known", len(f.list), len(f.has))
		}
		// It has the first of them, and all of them unless some were left out.
		if got := f.All(); !slices.Equal(got, want[:min(len(got), len(want))]) || !f.Cut() && len(got) != len(want) {
			t.Fatalf("kept %v, want %v", got, want)
		}
	}
	if thin == 0 {
		t.Error("it was never thin: this test shows less than it should")
	}
}
