package server

import (
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/xds"
)

// demandRig is a rig whose type is on demand; a node may hold two names.
func demandRig(t testing.TB, svc xds.Service) *rig {
	l := defaults
	l.held = 2
	r := newRig(t, false, l)
	r.m.env.onDemand = testType
	r.m.node.Service = svc
	for _, n := range names("n", 9) {
		r.src.set(n, "1")
	}
	return r
}

func (r *rig) held() int { return r.m.eviction.count() }

func TestTheOldestNameIsEvictedAndComesBackWhenItIsAskedFor(t *testing.T) {
	r := demandRig(t, xds.ADS)
	for _, n := range names("n", 3) {
		expect(t, "asked", r.delta(req{sub: []string{n}}), n+"@1")
	}
	r.told()
	if when := r.m.next(); when.IsZero() || when.After(r.now) {
		t.Fatalf("three are held and the machine wants to be called at %s", when)
	}
	evicted := func() (names string) {
		for _, n := range r.m.view(time.Time{}, Query{}).Names {
			if n.Evicted {
				names += n.Name
			}
		}
		return names
	}
	expect(t, "nothing is shown as evicted", evicted(), "")
	expect(t, "one too many", r.pass(0), "-n0")
	expect(t, "shown as evicted", evicted(), "n0")
	expect(t, "no more", r.pass(time.Second), "")
	r.src.set("n0", "2")
	expect(t, "renewed before the node has unsubscribed", r.wake(), "")
	expect(t, "ack, and the node unsubscribes", r.delta(req{nonce: r.last(), unsub: []string{"n0"}}), "")
	expect(t, "events", r.told(), "dropped n0")
	expect(t, "a client comes", r.delta(req{sub: []string{"n0"}}), "n0@2")
	expect(t, "shown no more", evicted(), "")
	expect(t, "the next", r.pass(time.Second), "-n1")
	expect(t, "a client was quicker than the unsubscription", r.delta(req{nonce: r.last(), sub: []string{"n1"}}),
		"n1@1")
	expect(t, "and so on", r.pass(time.Second), "-n2")
	if r.m.env.counters.evicted.Load() != 3 || r.held() != 2 {
		t.Errorf("%d evicted, %d held", r.m.env.counters.evicted.Load(), r.held())
	}
}

func TestEvictionsAreFiftyASecond(t *testing.T) {
	r := demandRig(t, xds.ADS)
	r.delta(req{sub: names("n", 9)})
	evicted := 0
	for range 100 { // whoever calls too early changes nothing
		if out := r.pass(time.Millisecond); out != "" {
			evicted++
		}
	}
	if evicted != 5 {
		t.Errorf("%d in 100 ms", evicted)
	}
	for !r.m.next().IsZero() && r.held() > 2 {
		r.now = r.m.next()
		r.pass(0)
	}
	if r.held() != 2 {
		t.Errorf("%d are held in the end", r.held())
	}
}

func TestWhatANodeDoesNotLetGoOfIsGivenBackForGood(t *testing.T) {
	r := demandRig(t, xds.ADS)
	r.delta(req{sub: names("n", 3)})
	expect(t, "evicted", r.pass(0), "-n0")
	r.delta(req{nonce: r.last()})
	if wait := r.m.next().Sub(r.now); wait != defaults.evictWait {
		t.Errorf("the machine wants to be called in %s", wait)
	}
	expect(t, "still subscribed", r.pass(defaults.evictWait), "n0@1")
	expect(t, "others come", r.delta(req{sub: []string{"n3"}}), "n3@1")
	expect(t, "another is evicted", r.pass(time.Second), "-n1")
	r.src.set("n0", "2")
	expect(t, "it is renewed", r.wake(), "n0@2")
	r.delta(req{sub: names("n", 9)[4:], unsub: []string{"n1"}})
	for range 20 {
		if out := r.pass(time.Second); strings.HasPrefix(out, "-") {
			if out == "-n0" {
				t.Fatal("evicted again")
			}
			r.delta(req{nonce: r.last(), unsub: []string{out[1:]}})
		}
	}
	if r.held() != 2 {
		t.Errorf("%d are held", r.held())
	}
}

// An eager chain's name that is absent while it waits to be given back is there again with the
// next certificate.
func TestWhatIsAbsentWhileItIsEvictedComesBack(t *testing.T) {
	r := demandRig(t, xds.ADS)
	r.delta(req{sub: names("n", 3)})
	expect(t, "evicted", r.pass(0), "-n0")
	r.delta(req{nonce: r.last()})
	r.src.absent("n0")
	r.wake()
	r.pass(defaults.evictWait)
	r.src.set("n0", "2")
	expect(t, "it is there again", r.wake(), "n0@2")
}

func TestAbsentNamesTakeNoRoom(t *testing.T) {
	r := demandRig(t, xds.ADS)
	r.delta(req{sub: names("n", 2)})
	for _, n := range names("unknown", 9) {
		r.src.absent(n)
		r.delta(req{sub: []string{n}})
	}
	if r.held() != 2 || !r.m.next().IsZero() {
		t.Errorf("%d are held, and the machine wants to be called at %s", r.held(), r.m.next())
	}
}

func TestANodeThatComesBackHoldsWhatItSays(t *testing.T) {
	r := demandRig(t, xds.ADS)
	expect(t, "a reconnect is silent", r.delta(req{sub: names("n", 3),
		have: map[string]string{"n0": "1", "n1": "1", "n2": "1"}}), "")
	expect(t, "and counts", r.pass(0), "-n0")
}

func TestOnTheServiceOfATypeNothingIsEvictedAndNothingEnds(t *testing.T) {
	for svc, want := range map[xds.Service]time.Duration{xds.ADS: 59 * time.Second, xds.SDS: 0} {
		r := demandRig(t, svc)
		res := thing("n0", "1", 10)
		res.Until = r.now.Add(time.Minute)
		r.src.put(res, "n0")
		r.delta(req{sub: []string{"n0"}})
		var d discoveryv3.DeltaDiscoveryResponse
		if err := proto.Unmarshal(r.responses[0].parts.Materialize(), &d); err != nil ||
			d.Resources[0].Ttl.AsDuration() != want {
			t.Errorf("%s: TTL %s, want %s, %v", svc, d.Resources[0].Ttl.AsDuration(), want, err)
		}
		r.delta(req{sub: names("n", 9)})
		if evicts := r.pass(0) != ""; evicts != (svc == xds.ADS) {
			t.Errorf("%s: evicts %v", svc, evicts)
		}
	}
}

// TestOrderDoesNotGrow: a node that asks and leaves for ever.
func TestOrderDoesNotGrow(t *testing.T) {
	r := demandRig(t, xds.ADS)
	r.m.env.limits.nonces = 10
	for range 1000 {
		r.delta(req{sub: []string{"n0"}, nonce: append([]string{""}, r.nonces...)[len(r.nonces)]})
		r.delta(req{unsub: []string{"n0"}})
	}
	if n := len(r.m.eviction.order); n > 4 {
		t.Errorf("%d entries for none that is held", n)
	}
}

// Clients choose the names on demand: more than a stream may have are absent, and end nothing. A
// node that reconnects lists all that it has.
func TestNamesBeyondTheLimitAreAbsentOnDemand(t *testing.T) {
	for _, list := range [][]string{names("n", 5)[4:], names("n", 6)} {
		r := demandRig(t, xds.ADS)
		r.m.env.limits.names, r.m.env.limits.held = 4, 9
		if len(list) == 1 {
			r.delta(req{sub: names("n", 4)})
		}
		if out := r.delta(req{sub: list}); !strings.Contains(out, "-n4") {
			t.Errorf("%d names: %q", len(list), out)
		}
		if r.m.names != 4 {
			t.Errorf("%d names are kept", r.m.names)
		}
	}
}
