package server

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

func small() limits {
	l := defaults
	l.names, l.nameLen, l.unacked, l.inFlight, l.nonces, l.burst, l.bytes = 6, 8, 400, 8, 12, 3, 200
	return l
}

// script reads a fuzzer's bytes as choices.
type script []byte

func (s *script) pick(n int) int {
	if len(*s) == 0 {
		return 0
	}
	c := (*s)[0]
	*s = (*s)[1:]
	return int(c) % n
}

func (s *script) names() []string {
	var out []string
	for range max(0, s.pick(6)-2) {
		switch k := s.pick(10); k {
		case 8:
			out = append(out, "*")
		case 9:
			out = append(out, []string{"", "much-too-long"}[s.pick(2)])
		default:
			out = append(out, fmt.Sprintf("n%d", k))
		}
	}
	return out
}

func (s *script) nonce(r *rig) string {
	switch k := s.pick(10); {
	case k == 0 || len(r.nonces) == 0:
		return ""
	case k == 1:
		return "made-up-nonce-000000001"
	default:
		return r.nonces[max(0, len(r.nonces)-1-k/4)] // mostly one of the last three
	}
}

func (s *script) failure() *statuspb.Status {
	if s.pick(2) == 0 {
		return &statuspb.Status{Message: strings.Repeat("\xffno\n", s.pick(256))}
	}
	return nil
}

// play drives a machine by the script and checks after each step what must always hold.
func play(t *testing.T, sotw bool, data []byte, request func(*rig, *script) ([]*response, error)) {
	if fuzzing() {
		data = data[:min(len(data), fuzzed)]
	}
	r := newRig(t, sotw, small())
	if len(data)%2 == 1 { // on demand
		r.m.env.onDemand, r.m.node.Service, r.m.env.limits.held = testType, xds.ADS, 3
	}
	s := script(data)
	unbidden := 0 // bytes of responses that the bound does not hold back
	for len(s) > 0 {
		type hold struct {
			version string
			retry   time.Time
		}
		held := make(map[*entry]hold) // what was parked before the step
		for _, e := range r.m.parked {
			held[e] = hold{e.refused.version, e.refused.retry}
		}
		var err error
		var out string
		switch s.pick(6) {
		case 0:
			name := fmt.Sprintf("n%d", s.pick(8))
			switch k := s.pick(5); k {
			case 0:
				r.src.absent(name)
			case 1:
				r.src.forget(name)
			default:
				r.src.put(thing(name, fmt.Sprint("v", k), s.pick(255)), name)
			}
			out = r.wake()
		case 1:
			before := r.m.env.counters.evicted.Load()
			out = r.pass(time.Duration(s.pick(20)) * 100 * time.Millisecond)
			if n := int(r.m.env.counters.evicted.Load() - before); n > 1 {
				t.Fatalf("%d names were evicted at once", n)
			} else if n == 1 {
				unbidden += 100
			}
		default:
			var resp []*response
			if resp, err = request(r, &s); err == nil {
				out = r.took(resp)
			}
		}
		if strings.Contains(out, "-much-too-long") || strings.HasSuffix(out, "-") || strings.Contains(out, "-*") ||
			strings.Contains(out, "- ") {
			unbidden += len(out) + 80
		}
		for e, h := range held {
			if e.gone || e.refused == nil || !h.retry.After(r.now) {
				continue // it left, accepted another copy, or its time has come
			}
			if e.sent == h.version && e.sentAt == r.now.UnixNano() &&
				carried(r.m, e, h.version, strings.Count(out, "|")+1) {
				t.Fatalf("%s@%s was answered while parked: %s", e.name, h.version, out)
			}
		}
		check(t, r, unbidden)
		r.now = r.now.Add(1) // each step has a time of its own
		if err != nil {
			break
		}
	}
	r.m.close("end of script", r.now)
	if n := r.src.watched(); n != 0 {
		t.Fatalf("%d names still watched", n)
	}
}

// check fails unless all bounds hold and the parts of the state agree with each other.
func check(t *testing.T, r *rig, unbidden int) {
	m, l := r.m, r.m.env.limits
	if m.names > l.names || len(m.out.recs) > l.nonces || len(m.due) > 2*l.names+2 {
		t.Fatalf("%d names, %d nonces, %d due", m.names, len(m.out.recs), len(m.due))
	}
	if m.out.bytes() > l.unacked+l.bytes+255+200+unbidden {
		t.Fatalf("%d bytes unacknowledged", m.out.bytes())
	}
	n, left, held, holds := 0, 0, 0, 0
	for _, e := range m.eviction.order {
		if !e.gone {
			held++
			if !e.held || e.evicted {
				t.Fatalf("%s is in the order: %+v", e.name, e)
			}
		}
	}
	for _, sub := range m.subs {
		n += len(sub.names)
		for name, e := range sub.names {
			if e.gone || e.name != name || e.refused != nil && len(e.refused.words) > maxWords {
				t.Fatalf("entry %+v", e)
			}
			if e.held {
				holds++
			}
			if e.evicted && (e.sent != "" || e.held || !e.removed) {
				t.Fatalf("evicted: %+v", e)
			}
			if e.refused != nil && e.refused.index >= 0 && m.parked[e.refused.index] != e {
				t.Fatal("the heap has lost an entry")
			}
		}
	}
	if held != m.eviction.count() || held != holds || len(m.eviction.order) > 2*l.names+2 {
		t.Fatalf("%d are held, %d counted, %d say so, in an order of %d", held, m.eviction.count(), holds,
			len(m.eviction.order))
	}
	for _, e := range m.due {
		if e.gone {
			left++
		}
	}
	if n != m.names || left != m.dueGone {
		t.Fatalf("counted %d names and %d left, there are %d and %d", m.names, m.dueGone, n, left)
	}
	for _, e := range m.parked {
		if e.gone {
			t.Fatal("a name that is gone is parked")
		}
	}
}

// carried reports whether one of the last n responses carries version of e.
func carried(m *machine, e *entry, version string, n int) bool {
	for _, rec := range m.out.recs[max(0, len(m.out.recs)-n):] {
		if rec != nil && slices.ContainsFunc(rec.items,
			func(it item) bool { return it.e == e && it.version == version }) {
			return true
		}
	}
	return false
}

// fuzzed is the most of a script that the fuzzer plays, in bytes. Many short scripts find more than
// few long ones.
const fuzzed = 150

func fuzzing() bool { return flag.Lookup("test.fuzz").Value.String() != "" }

// seeds adds random scripts. They are long in a plain test run, which plays them once.
func seeds(f *testing.F) {
	rnd := rand.NewChaCha8([32]byte{1})
	scripts, size := 300, 1000
	if fuzzing() {
		scripts, size = 40, fuzzed-1
	}
	for i := range scripts {
		b := make([]byte, size+i%2)
		rnd.Read(b)
		f.Add(b)
	}
}

func FuzzDelta(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		play(t, false, data, func(r *rig, s *script) ([]*response, error) {
			q := &discoveryv3.DeltaDiscoveryRequest{
				Node: testNode, TypeUrl: testType, ResourceNamesSubscribe: s.names(),
				ResourceNamesUnsubscribe: s.names(),
				ResponseNonce:            s.nonce(r), ErrorDetail: s.failure(),
			}
			if s.pick(3) == 0 {
				q.InitialResourceVersions = map[string]string{"n1": "v2", "n2": "v3"}
			}
			return r.m.delta(q, r.now)
		})
	})
}

func FuzzSotW(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		play(t, true, data, func(r *rig, s *script) ([]*response, error) {
			q := &discoveryv3.DiscoveryRequest{
				Node: testNode, TypeUrl: testType, ResourceNames: s.names(), ResponseNonce: s.nonce(r),
				ErrorDetail: s.failure(),
			}
			if s.pick(2) == 0 {
				q.VersionInfo = "v2"
			}
			return r.m.stateOfTheWorld(q, r.now)
		})
	})
}
