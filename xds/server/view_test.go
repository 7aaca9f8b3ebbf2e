package server

import (
	"testing"
	"time"
	"unsafe"

	"github.com/lockstep-tls/lockstep/xds"
)

func (r *rig) stateOf(name string) NameState { return r.m.state(r.m.subs[0].names[name]) }

func (r *rig) stands(what, name, want string) {
	r.t.Helper()
	if got := r.stateOf(name).State(r.now); got != want {
		r.t.Errorf("%s: %s is %q, want %q", what, name, got, want)
	}
}

func TestWhatWasRenewedIsInDoubtUntilItIsAcceptedInOtherBytes(t *testing.T) {
	r, src := started(t)
	r.stands("accepted", "a", "accepted")
	r.now = r.now.Add(time.Hour)
	r.m.renew(r.m.subs[0].names["a"])
	r.took(r.m.flush(r.now))
	r.stands("renewed", "a", "in doubt")
	if st := r.stateOf("a"); !st.SentAt.Equal(r.now) || !st.Took() {
		t.Errorf("in doubt since %v, want %v; %+v", st.SentAt, r.now, st)
	}
	r.stands("another name", "b", "accepted")
	r.delta(req{nonce: r.last()})
	r.stands("accepted again", "a", "accepted")

	r.m.renew(r.m.subs[0].names["a"])
	r.took(r.m.flush(r.now))
	r.now = r.now.Add(unanswered)
	r.stands("no answer", "a", "stale")
	r.delta(req{nonce: r.last(), nack: "no"})
	r.stands("refused", "a", "refused")
	if !r.stateOf("a").Took() {
		t.Error("what it accepted before the refusal is forgotten")
	}
	src.absent("a")
	r.wake()
	r.stands("withdrawn", "a", "")
	if r.stateOf("a").Took() {
		t.Error("it took something, although it was told that there is nothing")
	}
}

func TestWhatANodeClaimsIsInDoubtUntilTheSecondEncodingIsAccepted(t *testing.T) {
	for claim, want := range map[string]string{"1": "in doubt", "1.0?": "in doubt", "0.0": "in doubt",
		"1.0": "accepted", "": "sent"} {
		for _, sotw := range []bool{false, true} {
			r, _ := newVaryingRig(t, sotw, "1", "a")
			second := func() { r.delta(req{nonce: r.last()}) }
			if sotw {
				r.list([]string{"a"}, claim, "", "")
				second = func() { r.list([]string{"a"}, "1.2?", r.last(), "") }
			} else if claim == "" {
				r.delta(req{sub: []string{"a"}})
			} else {
				r.delta(req{sub: []string{"a"}, have: map[string]string{"a": claim}})
			}
			r.stands("claims "+claim, "a", want)
			if r.stateOf("a").Took() != (claim != "") {
				t.Errorf("claims %q: took %v", claim, claim == "")
			}
			if want == "accepted" {
				continue
			}
			second()
			r.stands("first of two answered, claimed "+claim, "a", want)
			second()
			r.stands("both answered, claimed "+claim, "a", "accepted")
		}
	}
}

func TestAFirstAnswerThatIsNoTookNothing(t *testing.T) {
	r, _ := newVaryingRig(t, false, "1", "a")
	r.delta(req{sub: []string{"a"}})
	r.delta(req{nonce: r.last(), nack: "no"})
	r.stands("refused at first", "a", "refused")
	if r.stateOf("a").Took() {
		t.Error("it counts as having taken something")
	}
}

func TestStatesAreOrderedByHowMuchTheyTell(t *testing.T) {
	now := time.Unix(1000, 0)
	present := func(s NameState) NameState { s.Known, s.Current = xds.Present, "2"; return s }
	for want, st := range map[string]NameState{
		"refused":  present(NameState{Refused: &Refusal{}, StandIn: true, InDoubt: true, Sent: "1"}),
		"stand-in": present(NameState{StandIn: true, InDoubt: true, Sent: "1"}),
		"stale":    present(NameState{InDoubt: true, Sent: "1", SentAt: now}),
		"in doubt": present(NameState{InDoubt: true, Sent: "2", SentAt: now}),
		"accepted": present(NameState{Sent: "2", Accepted: "2"}),
		"sent":     present(NameState{Sent: "2", SentAt: now}),
		"":         {},
	} {
		if got := st.State(now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAQueryByNameLooksAtThoseNamesAlone(t *testing.T) {
	r, _ := started(t)
	before := r.src.lookups
	v := r.m.view(time.Time{}, Query{Names: []string{"b", "nobody's"}})
	if len(v.Names) != 1 || v.Names[0].Name != "b" || v.Count != 2 || r.src.lookups != before+1 {
		t.Errorf("%+v after %d look-ups", v, r.src.lookups-before)
	}
}

func TestAnEntryIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(entry{}); size > 112 {
		// a size class of the runtime; streams hold up to 200 000
		t.Errorf("%d bytes", size)
	}
}
