package server

import (
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestDeltaAnswersPresentAbsentAndNotYet(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.src.absent("b")
	expect(t, "first request", r.delta(req{sub: []string{"a", "b", "c"}}), "-b | a@1")
	expect(t, "events", r.told(), "asked a, asked b, asked c, sent a@1")
	expect(t, "ack", r.delta(req{nonce: r.last()}), "")
	expect(t, "events", r.told(), "accepted a@1")
	r.src.set("c", "7")
	expect(t, "known at last", r.wake(), "c@7")
	r.src.absent("c")
	expect(t, "gone", r.wake(), "-c")
	r.m.mailbox.Put("c")
	expect(t, "woken without need", r.wake(), "")
	r.src.set("c", "7")
	expect(t, "back in the same version", r.wake(), "c@7")
}

func TestDeltaNamesCountWhateverTheNonce(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.src.set("b", "1")
	expect(t, "subscribe with a wrong nonce", r.delta(req{sub: []string{"a"}, nonce: "wrong"}), "a@1")
	r.told()
	for _, nonce := range []string{"wrong", r.last() + "0", strings.Repeat("f", 40), "8000000000000000-1"} {
		r.delta(req{nonce: nonce})
	}
	expect(t, "events after unknown nonces", r.told(), "")
	r.delta(req{sub: []string{"b"}, unsub: []string{"a"}, nonce: "stale", nack: "no"})
	expect(t, "events", r.told(), "dropped a, asked b, sent b@1")
	if n := r.m.env.counters.unknownNonces.Load(); n != 6 {
		t.Errorf("%d unknown nonces counted, want 6", n)
	}
}

func TestDeltaEachAcknowledgementBelongsToItsResponse(t *testing.T) {
	r := newRig(t, false, defaults)
	for _, n := range []string{"a", "b", "c"} {
		r.src.set(n, "1")
		r.delta(req{sub: []string{n}})
	}
	r.told()
	r.delta(req{nonce: r.nonces[2]})
	r.delta(req{nonce: r.nonces[0]})
	r.delta(req{nonce: r.nonces[0]}) // a second time it means nothing
	r.delta(req{nonce: r.nonces[1]})
	expect(t, "events", r.told(), "accepted c@1, accepted a@1, accepted b@1")
	if r.m.out.bytes() != 0 || r.m.out.count() != 0 || len(r.m.out.recs) != 0 {
		t.Errorf("left over: %+v", r.m.out)
	}
}

func TestDeltaAskingAgainIsAnsweredAgain(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.src.absent("b")
	r.delta(req{sub: []string{"a", "b"}})
	expect(t, "again", r.delta(req{sub: []string{"a"}}), "a@1")
	expect(t, "again, absent", r.delta(req{sub: []string{"b"}}), "-b")
	r.src.forget("a")
	expect(t, "again, unknown by now", r.delta(req{sub: []string{"a"}}), "")
	r.src.set("a", "1")
	expect(t, "known again", r.wake(), "a@1")
}

func TestDeltaWhatTheNodeHoldsIsNotSentAgain(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("same", "1")
	r.src.set("old", "2")
	r.src.absent("gone")
	have := map[string]string{"same": "1", "old": "1", "gone": "1", "late": "1", "late2": "1", "other": "1"}
	expect(t, "first request", r.delta(req{sub: []string{"same", "old", "gone", "late", "late2"}, have: have}),
		"-gone | old@2")
	expect(t, "events", r.told(),
		"asked same@1, asked old@1, asked gone@1, asked late@1, asked late2@1, accepted same@1, sent old@2")
	r.src.set("late", "1")
	r.src.set("late2", "2")
	expect(t, "known late", r.wake(), "late2@2")
	expect(t, "events", r.told(), "accepted late@1, sent late2@2")
	r.src.set("new", "1")
	expect(t, "claims count in the first request only",
		r.delta(req{sub: []string{"new"}, have: map[string]string{"new": "1"}}), "new@1")
}

func TestDeltaWildcardGetsNothingAndTheStreamGoesOn(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	expect(t, "empty first request", r.delta(req{}), "")
	expect(t, "star", r.delta(req{sub: []string{"*"}}), "")
	expect(t, "star away", r.delta(req{unsub: []string{"*"}}), "")
	if n := r.m.env.counters.wildcards.Load(); n != 2 {
		t.Errorf("%d wildcards counted, want 2", n)
	}
	expect(t, "events", r.told(), "")
	expect(t, "a name", r.delta(req{sub: []string{"a"}}), "a@1")
}

// wholeTable is a table that a node may subscribe to as a whole.
type wholeTable struct{ *table }

func (wholeTable) All() []string { return []string{"a", "b"} }

func TestDeltaWildcardOfASmallTypeIsEachOfItsNames(t *testing.T) {
	for name, first := range map[string]req{"no names": {}, "star": {sub: []string{"*"}}} {
		r := newRig(t, false, defaults)
		r.m.env.types[testType] = wholeTable{r.src}
		r.src.set("a", "1")
		first.have = map[string]string{"a": "1", "old": "3"}
		expect(t, name, r.delta(first), "-old")
		expect(t, "events", r.told(), "asked a@1, asked b, accepted a@1")
		r.src.set("a", "2")
		r.src.set("b", "1")
		expect(t, "changes", r.wake(), "a@2 b@1")
		expect(t, "ack", r.delta(req{nonce: r.last()}), "")
		if n := r.m.env.counters.wildcards.Load(); n != 0 {
			t.Errorf("%s: %d wildcards counted as unanswered", name, n)
		}
	}
}

// referring is a table whose resource "l" names others by its versions.
type referring struct{ *table }

func (referring) Brings(before, version string) []string {
	var names []string
	for _, n := range strings.Fields(version) {
		if !strings.Contains(before, n) {
			names = append(names, n)
		}
	}
	return names
}

func TestDeltaWhatAnAcceptedResourceNamesIsSentAgain(t *testing.T) {
	r := newRig(t, false, defaults)
	const other = "type.googleapis.com/test.Other"
	r.m.env.types[other] = referring{r.src}
	r.src.set("a", "1")
	r.src.set("b", "1")
	r.src.absent("gone")
	r.delta(req{sub: []string{"a", "b", "gone"}, have: map[string]string{"b": "1"}})
	r.src.set("l", "x")
	r.now = r.now.Add(time.Second)
	listener := func(q req) string { q.typeURL = other; return r.delta(q) }
	expect(t, "a listener", listener(req{sub: []string{"l"}}), "l@x")
	expect(t, "that names nothing new", listener(req{nonce: r.last()}), "")
	r.now = r.now.Add(time.Second)
	r.src.set("l", "x a gone c late")
	expect(t, "the next", r.wake(), "l@x a gone c late")
	nonce := r.last()
	r.now = r.now.Add(time.Second)
	r.src.set("late", "1")
	expect(t, "asked for since", r.delta(req{sub: []string{"late"}}), "late@1")
	expect(t, "its names, as far as they were sent before", listener(req{nonce: nonce}), "-gone | a@1")
	r.now = r.now.Add(time.Second)
	r.src.set("l", "x a gone b")
	expect(t, "one more", r.wake(), "l@x a gone b")
	expect(t, "its name, which the node had from another stream", listener(req{nonce: r.last()}), "b@1")
	r.src.set("l", "x")
	r.wake()
	expect(t, "fewer", listener(req{nonce: r.last()}), "")
}

func TestDeltaRefusedVersionIsParkedAndRetriedWithBackoff(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.delta(req{sub: []string{"a"}})
	r.told()
	wait := time.Second
	var tries []time.Duration
	for range 12 {
		expect(t, "refuse", r.delta(req{nonce: r.last(), nack: "bad\nkey\x00"}), "")
		expect(t, "events", r.told(), "refused a@1 (bad key?)")
		expect(t, "asked again while parked", r.delta(req{sub: []string{"a"}}), "")
		r.mailbox.Put("a")
		expect(t, "woken while parked", r.wake(), "")
		if got := r.m.next().Sub(r.now); got != wait {
			t.Fatalf("next try in %v, want %v", got, wait)
		}
		expect(t, "too early", r.pass(wait-1), "")
		expect(t, "retry", r.pass(1), "a@1")
		expect(t, "events", r.told(), "sent a@1")
		tries = append(tries, wait)
		wait = min(2*wait, 5*time.Minute)
	}
	if tries[len(tries)-1] != 5*time.Minute {
		t.Errorf("backoff ended at %v", tries[len(tries)-1])
	}
	if !r.m.next().IsZero() {
		t.Error("a deadline while the retry is under way")
	}
	r.delta(req{nonce: r.last()})
	expect(t, "events", r.told(), "accepted a@1")
	if st := r.m.state(r.m.subs[0].names["a"]); st.Refused != nil || st.State(r.now) != "accepted" {
		t.Errorf("state %+v", st)
	}
}

func TestDeltaRefusalLooksAgainAtOnce(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.src.set("b", "1")
	r.delta(req{sub: []string{"a"}})
	r.src.set("a", "2")
	expect(t, "newer version", r.delta(req{nonce: r.last(), nack: "no"}), "a@2")
	if !r.m.next().IsZero() {
		t.Error("the old version is still parked")
	}
	r.src.absent("a")
	expect(t, "absent by now", r.delta(req{nonce: r.last(), nack: "no"}), "-a")
	expect(t, "events", r.told(), "asked a, sent a@1, refused a@1 (no), sent a@2, refused a@2 (no)")
	expect(t, "refused removal", r.delta(req{nonce: r.last(), nack: "no"}), "")
	expect(t, "time passes", r.pass(time.Hour), "")
	expect(t, "nobody else notices", r.delta(req{sub: []string{"b"}}), "b@1")
}

func TestDeltaRefusalOfAnOlderVersionDoesNotHoldBackTheNewer(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.delta(req{sub: []string{"a"}})
	r.src.set("a", "2")
	expect(t, "push", r.wake(), "a@2")
	expect(t, "refuse the first", r.delta(req{nonce: r.nonces[0], nack: "no"}), "")
	expect(t, "time passes", r.pass(time.Minute), "")
	r.delta(req{nonce: r.nonces[1]})
	expect(t, "events", r.told(), "asked a, sent a@1, sent a@2, refused a@1 (no), accepted a@2")
	if st := r.m.state(r.m.subs[0].names["a"]); st.Refused != nil {
		t.Errorf("still refused: %+v", st.Refused)
	}
}

func TestDeltaLateRefusalOfAnOlderVersionDoesNotFreeTheNewer(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.delta(req{sub: []string{"a"}})
	r.src.set("a", "2")
	r.wake()
	r.delta(req{nonce: r.nonces[1], nack: "no"})
	expect(t, "asked again", r.delta(req{nonce: r.nonces[0], nack: "no", sub: []string{"a"}}), "")
	expect(t, "retry", r.pass(time.Second), "a@2")
}

func TestDeltaRefusedBurstIsSentOneByOne(t *testing.T) {
	r := newRig(t, false, defaults)
	for _, n := range []string{"a", "b", "c"} {
		r.src.set(n, "1")
	}
	expect(t, "burst", r.delta(req{sub: []string{"a", "b", "c"}}), "a@1 b@1 c@1")
	r.told()
	r.src.set("c", "2")
	expect(t, "refused", r.delta(req{nonce: r.last(), nack: "one is bad"}), "a@1 | b@1 | c@2")
	expect(t, "events", r.told(), "sent a@1, sent b@1, sent c@2")
	expect(t, "ack", r.delta(req{nonce: r.nonces[1]}), "")
	expect(t, "nack", r.delta(req{nonce: r.nonces[2], nack: "this one"}), "")
	expect(t, "ack", r.delta(req{nonce: r.nonces[3]}), "")
	expect(t, "events", r.told(), "accepted a@1, refused b@1 (this one), accepted c@2")
	r.src.set("d", "1")
	r.delta(req{sub: []string{"d"}})
	r.mailbox.Take()
	for _, n := range []string{"a", "c", "b", "d"} {
		r.src.set(n, "3")
	}
	expect(t, "b goes alone until it is accepted", r.wake(), "a@3 c@3 | b@3 | d@3")
	r.delta(req{nonce: r.nonces[len(r.nonces)-2]})
	for _, n := range []string{"a", "b", "d"} {
		r.src.set(n, "4")
	}
	expect(t, "afterwards not", r.wake(), "a@4 b@4 d@4")
}

func TestDeltaAcceptedAfterAllIsNotParked(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.delta(req{sub: []string{"a"}})
	r.delta(req{sub: []string{"a"}})
	r.delta(req{nonce: r.nonces[0], nack: "no"})
	r.delta(req{nonce: r.nonces[1]})
	expect(t, "events", r.told(), "asked a, sent a@1, sent a@1, refused a@1 (no), accepted a@1")
	if !r.m.next().IsZero() || len(r.m.parked) != 0 {
		t.Error("still parked")
	}
}

func TestDeltaUnsubscribedMeansNothingAnyMore(t *testing.T) {
	r := newRig(t, false, defaults)
	r.src.set("a", "1")
	r.delta(req{sub: []string{"a"}})
	expect(t, "leave and come back", r.delta(req{unsub: []string{"a"}, sub: []string{"a"}}), "a@1")
	r.told()
	r.delta(req{nonce: r.nonces[0], nack: "late"})
	r.delta(req{unsub: []string{"a"}})
	r.delta(req{nonce: r.nonces[1]})
	expect(t, "events", r.told(), "dropped a")
	r.src.set("a", "2")
	expect(t, "change", r.wake(), "")
	if r.src.watched() != 0 || r.m.names != 0 {
		t.Error("still watched")
	}
}

func TestDeltaBurstsAreBoundedInCountAndBytes(t *testing.T) {
	r := newRig(t, false, defaults)
	all := names("n", 200)
	for _, n := range all {
		r.src.put(thing(n, "1", 3<<10), n)
	}
	got := r.delta(req{sub: all})
	for _, one := range strings.Split(got, " | ") {
		if n := strings.Count(one, "@"); n > defaults.burst {
			t.Errorf("%d resources in a response", n)
		}
	}
	for _, resp := range r.responses {
		if resp.size > defaults.bytes+4<<10 {
			t.Errorf("a response of %d bytes", resp.size)
		}
	}
	if n := strings.Count(got, "@"); n != 200 {
		t.Errorf("%d of 200 sent", n)
	}
}

func TestDeltaUnacknowledgedBytesAreBoundedAndCoalesced(t *testing.T) {
	l := defaults
	l.unacked = 2000
	r := newRig(t, false, l)
	r.src.put(thing("a", "1", 1500), "a")
	expect(t, "first", r.delta(req{sub: []string{"a"}}), "a@1")
	r.src.put(thing("a", "2", 1500), "a")
	expect(t, "second", r.wake(), "a@2")
	for _, v := range []string{"3", "4", "5"} {
		r.src.put(thing("a", v, 1500), "a")
		expect(t, "bound reached", r.wake(), "")
	}
	expect(t, "a name that waits", r.delta(req{sub: []string{"b"}}), "")
	expect(t, "ack of the second shows that the first was read", r.delta(req{nonce: r.last()}), "a@5")
	for i := range 1000 { // coming and going while nothing can be sent
		r.src.put(thing("a", "6", 1500), "a")
		r.wake()
		r.delta(req{sub: []string{"x"}})
		r.delta(req{unsub: []string{"x"}})
		if len(r.m.due) > 10 {
			t.Fatalf("%d names wait after %d rounds", len(r.m.due), i)
		}
	}
}

func TestDeltaOldestNoncesAreForgotten(t *testing.T) {
	l := defaults
	l.nonces, l.inFlight = 4, 1<<30
	r := newRig(t, false, l)
	for _, n := range names("n", 10) {
		r.src.set(n, "1")
		r.delta(req{sub: []string{n}})
	}
	r.told()
	r.delta(req{nonce: r.nonces[0]})
	expect(t, "forgotten", r.told(), "")
	for _, nonce := range r.nonces[6:] {
		r.delta(req{nonce: nonce})
	}
	expect(t, "remembered", r.told(), "accepted n6@1, accepted n7@1, accepted n8@1, accepted n9@1")
}

func TestDeltaLimits(t *testing.T) {
	l := defaults
	l.names = 3
	r := newRig(t, false, l)
	long := strings.Repeat("x", l.nameLen+1)
	expect(t, "long and empty names", r.delta(req{sub: []string{long, ""}}), "-"+long+" -")
	expect(t, "events", r.told(), "")
	r.delta(req{sub: []string{"a", "b", "c"}})
	r.delta(req{sub: []string{"a"}, unsub: []string{"c"}})
	r.delta(req{sub: []string{"d"}})
	_, err := r.m.delta(req{sub: []string{"e"}}.delta(), r.now)
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "more than 3 names") {
		t.Errorf("too many names: %v", err)
	}
	r.m.close("over", r.now)
	if r.src.watched() != 0 {
		t.Error("still watched after the end")
	}
	if !strings.HasSuffix(r.told(), "closed  (over)") {
		t.Error("no closed event")
	}
}

func TestFirstRequestMustNameTheNode(t *testing.T) {
	for _, id := range []string{"", strings.Repeat("n", maxNodeID+1), "a\x1b[2J"} {
		r := newRig(t, false, defaults)
		q := req{sub: []string{"a"}}.delta()
		q.Node = nodeOf(id)
		_, err := r.m.delta(q, r.now)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "node.id") {
			t.Errorf("%q: %v", id, err)
		}
		r.m.close("refused", r.now)
		expect(t, "events", r.told(), "")
	}
	r := newRig(t, false, defaults)
	r.delta(req{sub: []string{"a"}})
	q := req{sub: []string{"b"}}.delta()
	q.Node = nodeOf("another")
	if _, err := r.m.delta(q, r.now); err != nil || r.m.node.ID != "n1" {
		t.Errorf("a later node counts: %v, %v", r.m.node.ID, err)
	}
}

func TestTypesThatAreNotServed(t *testing.T) {
	r := newRig(t, false, defaults)
	for range 3 {
		expect(t, "clusters", r.delta(req{typeURL: "type.googleapis.com/clusters", sub: []string{"a"}}), "")
	}
	for _, n := range names("t", 100) {
		r.delta(req{typeURL: n})
	}
	if len(r.m.ignored) != defaults.types || r.m.env.counters.ignoredTypes.Load() != 103 {
		t.Errorf("%d remembered, %d counted", len(r.m.ignored), r.m.env.counters.ignoredTypes.Load())
	}
	if _, err := r.m.delta(&discoveryv3.DeltaDiscoveryRequest{}, r.now); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no type on ADS: %v", err)
	}
	r.m.only = testType
	r.src.set("a", "1")
	if out, err := r.m.delta(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a"}},
		r.now); err != nil || r.took(out) != "a@1" {
		t.Errorf("the service's own type: %v", err)
	}
	if _, err := r.m.delta(req{typeURL: "other"}.delta(), r.now); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another type on the service of one: %v", err)
	}
}

// The structure that makes the cost flat, rather than the clock: a request looks at its own names
// only, and holds nothing back.
func TestDeltaCostPerRequestDoesNotGrowWithNames(t *testing.T) {
	r := newRig(t, false, defaults)
	before := 0
	for i, n := range names("n", 10_000) {
		r.src.set(n, "1")
		if got := r.delta(req{sub: []string{n}}); got != n+"@1" {
			t.Fatalf("%s: %q", n, got)
		}
		r.delta(req{nonce: r.last()})
		if d := r.src.lookups - before; d != 1 {
			t.Fatalf("name %d took %d look-ups", i, d)
		}
		before = r.src.lookups
		if len(r.m.due)+len(r.m.out.recs)+len(r.m.parked) != 0 {
			t.Fatal("something is held back")
		}
	}
}
