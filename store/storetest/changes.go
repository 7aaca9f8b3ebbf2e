package storetest

import (
	"fmt"
	"slices"
	"testing"
)

func changed(t *testing.T, s suite) {
	head := s.changedSince("", 0)
	s.changedSince("", head)
	x := s.put("a/x", 0, "1")
	head = s.changedSince("", head, "a/x")
	s.changedSince("", head)
	for range 3 {
		x = s.put("a/x", x, "1")
	}
	y := s.put("a/y", 0, "1")
	s.changedSince("", head, "a/x", "a/y")
	head = s.changedSince("", 0, "a/x", "a/y")
	s.changedSince("", head)
	s.conflict("a/y", x, []byte("2"))
	s.changedSince("", head) // what was refused changed nothing
	s.put("a/y", y, "2")
	s.changedSince("", head, "a/y")
	s.changedSince("", x, "a/y") // a revision of Swap serves as well
}

func changedDeleted(t *testing.T, s suite) {
	x, y := s.put("a/x", 0, "1"), s.put("a/y", 0, "1")
	head := s.changedSince("", 0, "a/x", "a/y")
	gone := s.del("a/x", x)
	s.changedSince("", head, "a/x")
	s.changedSince("", gone)
	x = s.put("a/x", 0, "2") // made again
	s.changedSince("", head, "a/x")
	s.del("a/x", x)
	s.del("a/y", y)
	head = s.changedSince("", head, "a/x", "a/y")
	s.changedSince("", head)
}

func changedPrefix(t *testing.T, s suite) {
	a, b := s.put("a/x", 0, "1"), s.put("b/x", 0, "1")
	s.put("ab/x", 0, "1")
	headA := s.changedSince("a/", 0, "a/x")
	headB := s.changedSince("b/", 0, "b/x")
	s.put("b/x", b, "2")
	s.changedSince("a/", headA)
	s.changedSince("b/", headB, "b/x")
	s.del("a/x", a)
	s.changedSince("a/", headA, "a/x")
	s.changedSince("c/", 0)
}

func keys(t *testing.T, s suite) {
	if got := s.keys(t.Context(), ""); len(got) != 0 {
		t.Fatalf("an empty store has %q", got)
	}
	var want []string
	for i := range 700 { // more than a driver reads at once
		want = append(want, fmt.Sprintf("a/%d", i))
	}
	want = append(want, "a/-", "a/Z", "a/_", "a/x", "a/x/y", "a/x.y", "a/=2A.example")
	for i, key := range want {
		s.put(key, 0, fmt.Sprint(i))
	}
	s.put("Z", 0, "v")
	s.put("b/x", 0, "v")
	s.put("a", 0, "v")
	s.del("a/gone", s.put("a/gone", 0, "v"))
	slices.Sort(want)
	if got := s.keys(t.Context(), "a/"); !slices.Equal(got, want) {
		t.Fatalf("Keys(a/) = %q, want %q", got, want)
	}
	all := slices.Concat([]string{"Z", "a"}, want, []string{"b/x"})
	if got := s.keys(t.Context(), ""); !slices.Equal(got, all) {
		t.Fatalf("Keys() = %q, want %q", got, all)
	}
	n := 0
	for range s.Keys(t.Context(), "") { // a consumer may leave early
		if n++; n == 3 {
			break
		}
	}
}

func keysWhileWriting(t *testing.T, s suite) {
	revs := map[string]int{}
	for i := range 600 {
		s.put(fmt.Sprintf("a/%03d", i), 0, "v")
	}
	for key, err := range s.Keys(t.Context(), "a/") {
		if err != nil {
			t.Fatal(err)
		}
		revs[key]++
		if len(revs)%100 != 0 {
			continue
		}
		_, rev, err := s.Get(t.Context(), key) // read and delete in the midst of it
		if err != nil {
			t.Fatal(err)
		}
		s.del(key, rev)
		s.put("b/"+key[2:], 0, "v")
	}
	if len(revs) != 600 {
		t.Fatalf("%d keys seen, want 600", len(revs))
	}
	if got := len(s.keys(t.Context(), "a/")); got != 594 {
		t.Fatalf("%d keys left, want 594", got)
	}
}
