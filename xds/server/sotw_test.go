package server

import (
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestSotWSendsOneResourceAResponse(t *testing.T) {
	r := newRig(t, true, defaults)
	r.src.set("a", "a1")
	r.src.set("b", "b1")
	r.src.absent("c")
	all := []string{"a", "b", "c", "a"}
	expect(t, "first list", r.list(all, "", "", ""), "a1 | b1")
	expect(t, "events", r.told(), "asked a, asked b, asked c, sent a@a1, sent b@b1")
	looks := r.src.lookups
	expect(t, "ack", r.list(all, "b1", r.nonces[1], ""), "")
	expect(t, "ack", r.list(all, "a1", r.nonces[0], ""), "")
	expect(t, "events", r.told(), "accepted b@b1, accepted a@a1")
	if r.src.lookups != looks || r.m.subs[0].round != 1 {
		t.Error("an acknowledgement went through its list")
	}
	r.src.set("c", "c1")
	expect(t, "there at last", r.wake(), "c1")
	r.src.absent("c")
	expect(t, "gone: SotW cannot say so", r.wake(), "")
}

func TestSotWTheListCountsWhateverTheNonce(t *testing.T) {
	r := newRig(t, true, defaults)
	r.src.set("a", "1")
	r.src.set("b", "1")
	r.src.set("c", "1")
	r.list([]string{"a", "b"}, "", "", "")
	r.told()
	expect(t, "stale nonce", r.list([]string{"b", "c"}, "", "stale", "no"), "1")
	expect(t, "events", r.told(), "dropped a, asked c, sent c@1")
	expect(t, "shorter", r.list([]string{"c"}, "", "", ""), "")
	expect(t, "events", r.told(), "dropped b")
	expect(t, "empty", r.list(nil, "", "", ""), "")
	expect(t, "events", r.told(), "dropped c")
	expect(t, "back", r.list([]string{"c"}, "1", "", ""), "1")
	if r.m.env.counters.wildcards.Load() != 0 || r.m.names != 1 || r.src.watched() != 1 {
		t.Error("wrong count")
	}
}

func TestSotWWhatTheNodeHolds(t *testing.T) {
	r := newRig(t, true, defaults)
	r.src.set("a", "1")
	expect(t, "one name, current version", r.list([]string{"a"}, "1", "", ""), "")
	expect(t, "events", r.told(), "asked a@1, accepted a@1")

	r = newRig(t, true, defaults)
	r.src.set("a", "2")
	expect(t, "one name, old version", r.list([]string{"a"}, "1", "", ""), "2")

	r = newRig(t, true, defaults)
	r.src.set("a", "1")
	r.src.set("b", "1")
	expect(t, "several names", r.list([]string{"a", "b"}, "1", "", ""), "1 | 1")
	expect(t, "events", r.told(), "asked a, asked b, sent a@1, sent b@1")
}

func TestSotWWildcardGetsNothing(t *testing.T) {
	r := newRig(t, true, defaults)
	r.src.set("a", "1")
	expect(t, "empty", r.list(nil, "", "", ""), "")
	expect(t, "star", r.list([]string{"*"}, "", "", ""), "")
	if n := r.m.env.counters.wildcards.Load(); n != 2 {
		t.Errorf("%d wildcards counted, want 2", n)
	}
	expect(t, "names", r.list([]string{"a"}, "", "", ""), "1")
}

func TestSotWRefusedVersionIsParked(t *testing.T) {
	r := newRig(t, true, defaults)
	r.src.set("a", "1")
	a := []string{"a"}
	r.list(a, "", "", "")
	expect(t, "refuse", r.list(a, "", r.last(), "bad"), "")
	expect(t, "retry", r.pass(time.Second), "1")
	expect(t, "refuse", r.list(a, "", r.last(), "bad"), "")
	expect(t, "too early", r.pass(time.Second), "")
	r.src.set("a", "2")
	expect(t, "a new version", r.wake(), "2")
	expect(t, "accept", r.list(a, "2", r.last(), ""), "")
	expect(t, "time passes", r.pass(time.Hour), "")
	expect(t, "events", r.told(),
		"asked a, sent a@1, refused a@1 (bad), sent a@1, refused a@1 (bad), sent a@2, accepted a@2")
}

func TestSotWTooManyNames(t *testing.T) {
	l := defaults
	l.names = 3
	r := newRig(t, true, l)
	r.list([]string{"a", "b", "c"}, "", "", "")
	r.list([]string{"d", "e", "f", strings.Repeat("x", 600)}, "", "", "") // leaving comes first
	_, err := r.m.stateOfTheWorld(&discoveryv3.DiscoveryRequest{TypeUrl: testType,
		ResourceNames: []string{"a", "b", "c", "d"}}, r.now)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too many names: %v", err)
	}
}
