package server

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/xds"
)

// varying is a table for nodes that keep what they refuse. The body of a resource says its
// content.
type varying struct {
	*table
	// the content that helps who refused another, by name; "-": removal; "": nothing does
	good map[string]string
}

func (varying) Varies(xds.Node) bool { return true }

func (varying) Variant(r *xds.Resource, n int, counts bool) *xds.Resource {
	content, _ := xds.Content(r.Version)
	return saying(r.Name, content, n, counts)
}

func (v varying) Cure(_ xds.Node, name, refused, _ string, try int) (*xds.Resource, xds.Remedy) {
	good, ok := v.good[name]
	switch {
	case !ok:
		return nil, xds.Retry
	case try == 0 && good == "-":
		return nil, xds.Remove
	case try == 0 && good != "" && good != refused:
		return saying(name, good, 0, true), xds.Replace
	case try <= 1 && good != "":
		r := saying(name, "stand-in", 0, true)
		r.StandIn = true
		return r, xds.Replace
	}
	return nil, xds.Hopeless
}

// saying is a resource whose bytes say content, and differ by the encoding n.
func saying(name, content string, n int, counts bool) *xds.Resource {
	body := content + strings.Repeat("!", n)
	return &xds.Resource{Name: name, Version: xds.Mark(content, n, counts),
		Body: &anypb.Any{TypeUrl: testType, Value: []byte(body)}}
}

func (v varying) says(name, content string) { v.put(saying(name, content, 0, true), name) }

// newVaryingRig is a rig whose node keeps what it refuses. Each of names has the content.
func newVaryingRig(t *testing.T, sotw bool, content string, names ...string) (*rig, varying) {
	r := newRig(t, sotw, defaults)
	src := varying{r.src, map[string]string{}}
	r.m.env.types[testType] = src
	for _, name := range names {
		src.says(name, content)
	}
	return r, src
}

// started is a rig whose node holds content 1 of a and of b, on a stream that knows it.
func started(t *testing.T) (*rig, varying) {
	t.Helper()
	r, src := newVaryingRig(t, false, "1", "a", "b")
	expect(t, "nothing is known: first of two", r.delta(req{sub: []string{"a"}}), "a@1.2?")
	expect(t, "its ACK does not count", r.delta(req{nonce: r.last()}), "a@1.0")
	expect(t, "events", r.told(), "asked a, sent a@1, sent a@1")
	expect(t, "the second's does", r.delta(req{nonce: r.last()}), "")
	expect(t, "events", r.told(), "accepted a@1")
	expect(t, "a later name is new to the node", r.delta(req{sub: []string{"b"}}), "b@1.0")
	r.delta(req{nonce: r.last()})
	expect(t, "events", r.told(), "asked b, sent b@1, accepted b@1")
	return r, src
}

// offered is a started rig whose node was then sent content 2 of a. remedy is what helps a node
// that refuses it: see varying.
func offered(t *testing.T, remedy string) (*rig, varying) {
	t.Helper()
	r, src := started(t)
	src.good["a"] = remedy
	src.says("a", "2")
	expect(t, "content 2", r.wake(), "a@2.0")
	return r, src
}

func TestAnACKCountsIfTheBytesDifferFromThoseDeliveredLast(t *testing.T) {
	r, src := started(t)
	src.says("a", "2")
	expect(t, "a change", r.wake(), "a@2.0")
	expect(t, "refused, and nothing helps: later", r.delta(req{nonce: r.last(), nack: "no"}), "")
	expect(t, "events", r.told(), "sent a@2, refused a@2 (no)")
	expect(t, "the same in other bytes", r.pass(time.Second), "a@2.1")
	r.delta(req{nonce: r.last(), nack: "no"})
	expect(t, "and again", r.pass(2*time.Second), "a@2.0")
	r.delta(req{nonce: r.last()})
	expect(t, "events", r.told(), "sent a@2, refused a@2 (no), sent a@2, accepted a@2")
	src.says("a", "1")
	expect(t, "back to what it had", r.wake(), "a@1.0")
}

func TestWhatANodeBringsIsBelievedByItsMark(t *testing.T) {
	for claim, want := range map[string]string{
		"1.0": "", "1.1": "", "1.2": "", // its ACK counted
		"1": "a@1.2?", "1.0?": "a@1.2?", "1.2?": "a@1.2?", "2.0": "a@1.2?", "1.7": "a@1.2?",
	} {
		r, src := newVaryingRig(t, false, "1", "a")
		expect(t, claim, r.delta(req{sub: []string{"a"}, have: map[string]string{"a": claim}}), want)
		if want != "" {
			expect(t, claim+": the second", r.delta(req{nonce: r.last()}), "a@1.0")
			continue
		}
		expect(t, claim, r.told(), "asked a@1, accepted a@1")
		src.says("a", "2")
		expect(t, claim+": what was delivered since is not known", r.wake(), "a@2.2?")
	}
}

func TestSotWClaimsAreBelievedByTheirMark(t *testing.T) {
	for claim, want := range map[string]string{"1.0": "", "1": "1.2?", "1.2?": "1.2?", "": "1.2?"} {
		r, _ := newVaryingRig(t, true, "1", "a")
		expect(t, claim, r.list([]string{"a"}, claim, "", ""), want)
		if want != "" {
			expect(t, claim+": the second", r.list([]string{"a"}, "1.2?", r.last(), ""), "1.0")
			r.list([]string{"a"}, "1.0", r.last(), "")
		}
		if got := r.told(); !strings.HasSuffix(got, "accepted a@1") {
			t.Errorf("%q: %s", claim, got)
		}
	}
}

func TestARefusalIsCuredByTheLastGoodOne(t *testing.T) {
	r, src := offered(t, "1")
	expect(t, "refused", r.delta(req{nonce: r.last(), nack: "no"}), "a@1.0")
	expect(t, "cured", r.delta(req{nonce: r.last()}), "")
	expect(t, "events", r.told(), "sent a@2, refused a@2 (no), sent a@1, cured a@1")
	st := r.m.state(r.m.subs[0].names["a"])
	if st.Refused == nil || !st.Refused.Cured || st.Refused.Version != "2" || st.Accepted != "1" {
		t.Errorf("state %+v, refused %+v", st, st.Refused)
	}
	r.mailbox.Put("a")
	expect(t, "woken without need", r.wake(), "")
	expect(t, "it is not repeated", r.pass(time.Hour), "")
	if !r.m.next().IsZero() {
		t.Error("a deadline although there is nothing to do")
	}
	src.says("a", "1")
	expect(t, "put back", r.wake(), "")
	expect(t, "events", r.told(), "accepted a@1")
	src.says("a", "3")
	expect(t, "mended", r.wake(), "a@3.0")
	r.delta(req{nonce: r.last()})
	expect(t, "events", r.told(), "sent a@3, accepted a@3")
}

func TestWithoutAGoodOneANameIsRemovedOrGetsAStandIn(t *testing.T) {
	r, src := offered(t, "-")
	expect(t, "refused", r.delta(req{nonce: r.last(), nack: "no"}), "-a")
	expect(t, "the node lets go of it", r.delta(req{nonce: r.last(), unsub: []string{"a"}}), "")
	expect(t, "nothing is left to do", r.pass(time.Hour), "")
	r.told()

	src.good["b"] = "-"
	src.says("b", "2")
	r.wake()
	expect(t, "refused", r.delta(req{nonce: r.last(), nack: "no"}), "-b")
	r.delta(req{nonce: r.last()})
	expect(t, "a chain of its own does not let go", r.pass(time.Second), "b@stand-in.0")
	r.delta(req{nonce: r.last()})
	expect(t, "events", r.told(), "sent b@2, refused b@2 (no), sent b@stand-in, cured b@stand-in")
	if st := r.m.state(r.m.subs[0].names["b"]); st.Accepted != "" || st.State(r.now) != "refused" {
		t.Errorf("a stand-in counts as accepted: %+v", st)
	}
}

func TestANodeThatRefusesEveryRemedyIsStuck(t *testing.T) {
	r, _ := offered(t, "1")
	expect(t, "refused", r.delta(req{nonce: r.last(), nack: "no"}), "a@1.0")
	expect(t, "and the last good one", r.delta(req{nonce: r.last(), nack: "no CA"}), "a@stand-in.0")
	expect(t, "and the stand-in: it is left with what it should have", r.delta(req{nonce: r.last(), nack: "no CA"}),
		"a@2.0")
	expect(t, "events", r.told(), "sent a@2, refused a@2 (no), sent a@1, sent a@stand-in, stuck a@2 (no CA), sent a@2")
	expect(t, "which it refuses, too", r.delta(req{nonce: r.last(), nack: "no CA"}), "")
	expect(t, "events", r.told(), "refused a@2 (no CA)")
	if st := r.m.state(r.m.subs[0].names["a"]); !st.Refused.Stuck {
		t.Errorf("%+v", st.Refused)
	}
	expect(t, "seldom", r.pass(5*time.Minute-1), "")
	expect(t, "the version itself is tried again", r.pass(1), "a@2.1")
	r.delta(req{nonce: r.last(), nack: "no CA"})
	expect(t, "not the remedies", r.pass(5*time.Minute), "a@2.0")
	r.delta(req{nonce: r.last()})
	expect(t, "somebody mended the node", r.told(), "sent a@2, refused a@2 (no CA), sent a@2, accepted a@2")
}

func TestOfSeveralThatWereRefusedTogetherEachIsOfferedAloneInTwoEncodings(t *testing.T) {
	r, _ := newVaryingRig(t, false, "2", "a", "b")
	expect(t, "together", r.delta(req{sub: []string{"a", "b"}}), "a@2.2? b@2.2?")
	r.told()
	expect(t, "refused: which of them was stored is not known", r.delta(req{nonce: r.last(), nack: "no"}),
		"a@2.2? | b@2.2?")
	first := len(r.nonces) - 2
	expect(t, "a", r.delta(req{nonce: r.nonces[first]}), "a@2.0")
	expect(t, "b is the one", r.delta(req{nonce: r.nonces[first+1], nack: "bad b"}), "")
	r.delta(req{nonce: r.nonces[first+2]})
	expect(t, "events", r.told(), "sent a@2, sent b@2, sent a@2, refused b@2 (bad b), accepted a@2")
}

func TestWhatReplacesAnotherVersionGoesAlone(t *testing.T) {
	r, src := started(t)
	src.says("a", "2")
	src.says("b", "2")
	expect(t, "two changes", r.wake(), "a@2.0 | b@2.0")
}

func TestWhatIsInASharedResponseIsSentNothingElseUntilTheAnswer(t *testing.T) {
	r, src := newVaryingRig(t, false, "1", "a", "b")
	r.delta(req{sub: []string{"a", "b"}})
	src.says("a", "2")
	expect(t, "a change before the answer", r.wake(), "")
	expect(t, "the answer", r.delta(req{nonce: r.last(), nack: "no"}), "a@2.2? | b@1.2?")
}

func TestWhatIsInDoubtIsOfferedAgainInOtherBytes(t *testing.T) {
	r, _ := started(t)
	e := r.m.subs[0].names["a"]
	r.m.renew(e)
	expect(t, "renewed", r.took(r.m.flush(r.now)), "a@1.1")
	if st := r.m.state(e); st.Accepted != "" {
		t.Errorf("it counts as accepted: %+v", st)
	}
	r.delta(req{nonce: r.last()})
	expect(t, "events", r.told(), "sent a@1, accepted a@1")

	r, _ = newVaryingRig(t, false, "1", "a")
	r.delta(req{sub: []string{"a"}, have: map[string]string{"a": "1.0"}})
	r.m.renew(r.m.subs[0].names["a"])
	expect(t, "what it holds in which bytes is not known", r.took(r.m.flush(r.now)), "a@1.2?")
}

// keeper is a node as Envoy is: it stores what it is sent before it looks whether it can use it.
type keeper struct {
	stored, uses map[string]string
	claims       map[string]string // the version of its last ACK, by name
	bad          func(body string) bool
	broken       bool // no context can be built, whatever is sent
}

func (k *keeper) take(d *discoveryv3.DeltaDiscoveryResponse, rnd *rand.Rand) (words string) {
	rnd.Shuffle(len(d.Resources), func(i, j int) { d.Resources[i], d.Resources[j] = d.Resources[j], d.Resources[i] })
	for _, r := range d.Resources {
		body := string(r.Resource.Value)
		if k.stored[r.Name] == body {
			continue
		}
		k.stored[r.Name] = body
		if k.broken || k.bad(body) {
			return "cannot be used: " + body
		}
		k.uses[r.Name] = body
	}
	for _, r := range d.Resources {
		k.claims[r.Name] = r.Version
	}
	return ""
}

// TestWhatCountsAsAcceptedIsUsed plays a server against a node that keeps what it refuses:
// contents change, good and bad; streams end, and the server forgets all; what helps is there or
// not. Whenever the server says that a content was accepted, the node must be using it.
func TestWhatCountsAsAcceptedIsUsed(t *testing.T) {
	for seed := range uint64(2000) {
		if err := playKeeper(t, rand.New(rand.NewPCG(seed, 7))); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func playKeeper(t *testing.T, rnd *rand.Rand) error {
	all := []string{"a", "b", "c"}
	k := &keeper{stored: map[string]string{}, uses: map[string]string{}, claims: map[string]string{},
		bad: func(b string) bool { return strings.Contains(b, "bad") }}
	now := map[string]string{}
	good := map[string]string{}
	if rnd.IntN(2) == 0 {
		good = map[string]string{"a": "1", "b": "1", "c": "-"}
	}
	var r *rig
	var log []string
	connect := func() {
		old := r
		r = newRig(t, false, defaults)
		if old != nil {
			r.now = old.now
		}
		src := varying{r.src, good}
		r.m.env.types[testType] = src
		r.m.env.observe = func(e xds.Event) {
			log = append(log, fmt.Sprintf("%s %s@%s", e.Kind, e.Name, e.Version))
			if e.Kind == xds.Accepted && strings.Trim(k.uses[e.Name], "!") != e.Version {
				log = append(log, fmt.Sprintf("WRONG: it uses %q", k.uses[e.Name]))
			}
		}
		for n, c := range now {
			src.says(n, c)
		}
	}
	wire := [][]byte{}
	send := func(out []*response) {
		for _, x := range out {
			wire = append(wire, bytes.Clone(x.parts.Materialize()))
		}
	}
	ask := func(d *discoveryv3.DeltaDiscoveryRequest) error {
		d.Node, d.TypeUrl = testNode, testType
		out, err := r.m.delta(d, r.now)
		send(out)
		return err
	}
	answer := func() *discoveryv3.DeltaDiscoveryRequest {
		// to the first response that is on its way
		var d discoveryv3.DeltaDiscoveryResponse
		if err := proto.Unmarshal(wire[0], &d); err != nil {
			t.Fatal(err)
		}
		wire = wire[1:]
		q := &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: d.Nonce}
		if words := k.take(&d, rnd); words != "" {
			q.ErrorDetail = &statuspb.Status{Message: words}
		}
		return q
	}
	first := func() error {
		wire = nil
		some := all[:1+rnd.IntN(len(all))]
		for _, n := range all { // claims are of what is subscribed
			if !slices.Contains(some, n) {
				delete(k.claims, n)
				delete(k.stored, n)
				delete(k.uses, n)
			}
		}
		return ask(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: some,
			InitialResourceVersions: maps.Clone(k.claims)})
	}
	for _, n := range all {
		now[n] = []string{"1", "bad0"}[rnd.IntN(5)/4]
	}
	connect()
	if err := first(); err != nil {
		return err
	}
	for step := range 60 {
		r.now = r.now.Add(time.Duration(1+rnd.IntN(1500)) * time.Millisecond)
		var err error
		switch n := all[rnd.IntN(len(all))]; rnd.IntN(12) {
		case 0:
			connect()
			err = first()
		case 1:
			k.broken = !k.broken
		case 2:
			now[n] = fmt.Sprintf("bad%d", rnd.IntN(3))
			varying{r.src, good}.says(n, now[n])
			send(r.m.changed(r.mailbox.Take(), r.now))
		case 3, 4:
			now[n] = fmt.Sprint(1 + rnd.IntN(3))
			varying{r.src, good}.says(n, now[n])
			if rnd.IntN(2) == 0 {
				send(r.m.changed(r.mailbox.Take(), r.now))
			}
		case 5:
			if len(r.m.subs) > 0 && r.m.subs[0].names[n] != nil {
				r.m.renew(r.m.subs[0].names[n])
				send(r.m.flush(r.now))
			}
		case 6:
			r.now = r.now.Add(time.Duration(rnd.IntN(400)) * time.Second)
			send(r.m.timer(r.now))
		default:
			if len(wire) == 0 {
				send(r.m.changed(r.mailbox.Take(), r.now))
				continue
			}
			q := answer()
			if rnd.IntN(8) == 0 { // it took it, and the answer is lost
				connect()
				err = first()
			} else {
				err = ask(q)
			}
		}
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(log, func(s string) bool { return strings.HasPrefix(s, "WRONG") }); i >= 0 {
			return fmt.Errorf("step %d: %s\n%s", step, log[i], strings.Join(log, "\n"))
		}
	}
	// In the end, what can be used is used, and counts as accepted.
	k.broken = false
	for range 200 {
		send(r.m.changed(r.mailbox.Take(), r.now))
		if len(wire) == 0 {
			r.now = r.now.Add(301 * time.Second)
			send(r.m.timer(r.now))
		}
		if len(wire) == 0 {
			break
		}
		if err := ask(answer()); err != nil {
			return err
		}
	}
	for n, e := range r.m.subs[0].names {
		st := r.m.state(e)
		uses := strings.Trim(k.uses[n], "!")
		switch good := !k.bad(now[n]); {
		case st.Refused != nil && st.Refused.Cured:
			// it refused it once, and is not asked again until it changes
		case good && (uses != now[n] || st.State(r.now) != "accepted"):
			return fmt.Errorf("in the end %s uses %q, its state is %s, and it should have %s\n%s", n, uses,
				st.State(r.now), now[n], strings.Join(log, "\n"))
		case !good && st.State(r.now) == "accepted":
			return fmt.Errorf("in the end %s has %s, and counts as accepted\n%s", n, now[n], strings.Join(log, "\n"))
		}
	}
	return nil
}

// A listener that leaves out a chain waits until the certificate of that chain is cured: the chain
// drains for long, and what ails it ails all.
func TestAChainIsCuredBeforeItLeavesAListener(t *testing.T) {
	for how, end := range map[string]func(*rig){
		"cured": func(r *rig) { r.delta(req{nonce: r.last()}) },
		"stuck": func(r *rig) {
			r.delta(req{nonce: r.last(), nack: "no"})
			r.delta(req{nonce: r.last(),
				nack: "no"})
		},
		"dropped": func(r *rig) { r.delta(req{unsub: []string{"a"}}) },
	} {
		r, src := started(t)
		const other = "type.googleapis.com/test.Other"
		l := referring{newTable()}
		r.m.env.types[other] = l
		listener := func(q req) string { q.typeURL = other; return r.delta(q) }
		l.set("l", "a b")
		expect(t, how+": the listener", listener(req{sub: []string{"l"}}), "l@a b")
		listener(req{nonce: r.last()})
		r.delta(req{nonce: r.last()})
		src.good["a"] = "1"
		src.says("a", "2")
		r.wake()
		expect(t, how+": a is refused", r.delta(req{nonce: r.last(), nack: "no"}), "a@1.0")
		l.set("l", "b")
		r.mailbox.Put("l")
		expect(t, how+": a is to leave the listener", r.wake(), "")
		end(r)
		r.now = r.now.Add(time.Second)
		if got := r.took(r.m.flush(r.now)); got != "" {
			t.Errorf("%s: %s is late", how, got)
		}
		found := false
		for _, x := range r.responses {
			found = found || strings.Contains(string(x.parts.Materialize()), "\x1a\x01l") &&
				strings.Contains(string(x.parts.Materialize()), "\x0a\x01b")
		}
		if !found {
			t.Errorf("%s: the listener was not sent", how)
		}
	}
}

// Where there is a stand-in alone, a removal comes first, unless the node says that each name is a
// filter chain's own.
func TestAStandInComesAfterARemovalUnlessTheNodeIsEager(t *testing.T) {
	for _, eager := range []bool{false, true} {
		r, src := newVaryingRig(t, false, "")
		r.m.env.onDemand = testType
		r.m.node.ID, r.m.node.Service, r.m.node.Eager = "n1", xds.ADS, eager
		standIn := saying("a", "stand-in", 0, true)
		standIn.StandIn = true
		src.put(standIn, "a")
		got := r.delta(req{sub: []string{"a"}, typeURL: testType})
		if eager {
			expect(t, "eager", got, "a@stand-in.2?")
			continue
		}
		expect(t, "not eager", got, "-a")
		expect(t, "not at once", r.pass(time.Second-1), "")
		expect(t, "it did not let go", r.pass(1), "a@stand-in.2?")
	}
}
