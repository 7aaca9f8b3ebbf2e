package expiry

import (
	"cmp"
	"slices"
	"time"
)

// Named is a certificate of which only this is kept.
type Named struct {
	Name string
	Span
}

// First keeps those of many certificates that come first by a time, such as their ends. It keeps a
// bounded number, so it costs as much for a million as for a thousand. It is not safe for
// concurrent use.
type First struct {
	most int
	by   func(Span) time.Time
	list []Named // list is in order.
	has  map[string]Span
	cut  bool
	// bound is the first of those that were left out. What comes after it is left out, too: there
	// may be others between the two.
	bound Named
}

// NewFirst returns one that keeps most.
func NewFirst(most int, by func(Span) time.Time) *First {
	return &First{most: most, by: by, has: map[string]Span{}}
}

// Put takes a certificate, in the place of an earlier one of that name.
func (f *First) Put(name string, s Span) {
	f.Drop(name)
	n := Named{name, s}
	if f.cut && f.compare(n, f.bound) >= 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(f.list, n, f.compare)
	f.list = slices.Insert(f.list, i, n)
	f.has[name] = s
	if len(f.list) > f.most {
		f.bound, f.cut = f.list[f.most], true
		delete(f.has, f.bound.Name)
		f.list = f.list[:f.most]
	}
}

// Drop takes out a name, if it is there.
func (f *First) Drop(name string) {
	s, ok := f.has[name]
	if !ok {
		return
	}
	delete(f.has, name)
	if i, found := slices.BinarySearchFunc(f.list, Named{name, s}, f.compare); found {
		f.list = slices.Delete(f.list, i, i+1)
	}
}

func (f *First) compare(a, b Named) int {
	return cmp.Or(f.by(a.Span).Compare(f.by(b.Span)), cmp.Compare(a.Name, b.Name))
}

// All returns what is kept, in order. Nothing that is missing comes before any of it. The caller
// must not change it.
func (f *First) All() []Named { return f.list }

// Thin reports that others were left out, and that fewer than half of the most are left since. Then
// all should be put again, into a new one.
func (f *First) Thin() bool { return f.cut && len(f.list) < f.most/2 }

// Cut reports that others were left out.
func (f *First) Cut() bool { return f.cut }

// ByEnd orders by the end.
func ByEnd(s Span) time.Time { return s.NotAfter }

// ByNear returns an order by the time from which the certificates are near their ends.
func ByNear(r Rule) func(Span) time.Time { return func(s Span) time.Time { return s.NearFrom(r) } }
