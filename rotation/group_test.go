package rotation

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// plagued counts how often a rotation is taken back, and until when, while somebody refuses every
// ring. who names the refuser of each try.
func plagued(t *testing.T, who func(try int) Member) (times int, last time.Duration) {
	l := newLab(t)
	l.after(l.p.Period, "distributing")
	began := l.now
	for range 60 {
		l.accept("a", "b", "c")
		m := who(times)
		m.Nr, m.Answered, m.Connected, m.Since, m.Floor = 1, true, true, l.now, l.r.Generation-1
		m.Refused, m.Words = l.r.Generation, "no"
		l.members = map[string]*Member{"a": l.members["a"], "b": l.members["b"], "c": l.members["c"], m.Node: &m}
		lines := l.r.Lines
		n, changed := l.r.Next(l.p, l.tally(), l.now, l.key)
		if !changed {
			// It is waited for all the same: no key encrypts that a live member has not accepted.
			if late := n.Late(l.p, l.tally(), l.now); len(late) != 1 || late[0].Node != m.Node ||
				n.Phase != Distributing {
				t.Fatalf("%s waits for %v", n.Phase, Names(late))
			}
			return times, last
		}
		l.r = n
		l.wrote(lines, "taken-back")
		times, last = times+1, l.now.Sub(began)
		l.members[m.Node].Refused = 0
		l.accept(m.Node)
		l.after(l.r.RetryAt.Sub(l.now), "distributing")
	}
	t.Fatal("it is taken back again and again")
	return 0, 0
}

func TestOneClientWithManyIDsTakesBackNoMoreThanOneNode(t *testing.T) {
	times, last := plagued(t, func(int) Member { return Member{Node: "bad"} })
	many, until := plagued(t, func(try int) Member {
		return Member{Node: fmt.Sprint("made-up-", try), Grouped: true, Group: "g"}
	})
	if many != times || until != last {
		t.Errorf("with an id for each try it was taken back %d times, for %s; one node did so %d times, for %s",
			many, until, times, last)
	}
	bound, _ := plagued(t, func(try int) Member { return Member{Node: fmt.Sprint("node-", min(try, 20))} })
	if bound <= times {
		t.Errorf("nodes whose ids are bound count each: %d times", bound)
	}
}

// Of another replica's grouped members nobody knows the group here. That replica judges them.
func TestAGroupedMemberOfAnotherReplicaTakesNothingBackHere(t *testing.T) {
	if times, _ := plagued(t, func(int) Member { return Member{Node: "bad", Grouped: true} }); times != 0 {
		t.Errorf("taken back %d times", times)
	}
}

// Made-up names leave room for those of nodes that are known.
func TestGroupsLeaveRoomForOtherRefusers(t *testing.T) {
	l := newLab(t)
	l.after(l.p.Period, "distributing")
	for i := range 3 * maxRefusers {
		l.r.noteRefusal(&Member{Node: fmt.Sprint("x", i), Nr: 1, Grouped: true, Group: fmt.Sprint(i)}, l.now)
	}
	l.refuse("c", "no")
	l.next("taken-back")
	if l.last().By != "c" || len(l.r.Refusers) != maxRefusers/2+1 {
		t.Errorf("by %s, %d names", l.last().By, len(l.r.Refusers))
	}
	other := &Member{Node: "y", Nr: 1, Grouped: true, Group: "another"}
	if l.r.refusalCounts(other, l.p, l.now) {
		t.Error("the number of groups has no bound")
	}
}

// What a version keeps that does not know groups says nothing of a later rotation. Such a version
// refuses a record with a field that it does not know.
func TestGroupRefusalsBelongToOneRotation(t *testing.T) {
	l := newLab(t)
	l.after(l.p.Period, "distributing")
	m := &Member{Node: "x", Nr: 1, Grouped: true, Group: "g"}
	l.r.noteRefusal(m, l.now.Add(-l.p.RefuseGrace))
	b, err := l.r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"refusers":{"all nodes of g":`) {
		t.Fatalf("a version that knows no groups has no place for them: %s", b)
	}
	r, err := Decode("s", b)
	if err != nil || r.refusalCounts(m, l.p, l.now) {
		t.Errorf("the refusal is forgotten: %v %+v", err, r.Groups)
	}
	r.Begun++ // another version ended the rotation and began one
	if !r.refusalCounts(m, l.p, l.now) {
		t.Error("a refusal of an earlier rotation counts")
	}
	l.accept("a", "b", "c")
	l.next("promoting")
	l.accept("a", "b", "c")
	if l.next("done"); l.r.Groups.First != nil {
		t.Error("the refusals are kept after the rotation")
	}
}
