package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/xds"
)

// contentOf is the version of a pair's content.
func (s *stage) contentOf(p fleet.Pair) string {
	s.t.Helper()
	c, err := keysource.ParseCertificate(keysource.PEM{Chain: p.Chain, Key: p.Key}, time.Now())
	s.ok(err)
	return c.Version()
}

// sent lists the nodes that were sent a content.
func sent(content string, nodes []*scripted) (ids []string) {
	for _, n := range nodes {
		if n.wasSent(content) {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// refusesThat refuses one content, and accepts all others.
func refusesThat(content, words string) script {
	return func(_, next ring) answer {
		if got, _ := xds.Content(next.version); got == content {
			return answer{words: words}
		}
		return answer{}
	}
}

// TestARenewalThatANodeRefusesReachesNoOtherOfItsKind: the Envoys, which are of another kind, get
// it. A renewal that is accepted reaches all within a second, and so does the refused one with
// --now.
func TestARenewalThatANodeRefusesReachesNoOtherOfItsKind(t *testing.T) {
	const words = "no such curve"
	s := newStage(t, setup{})
	host := "stored.example"
	first := s.issue(host)
	s.writePair(host, first)
	s.hosts = append(s.hosts, host)
	s.fleetOf(2)
	var odd []*scripted
	for i := range 3 {
		odd = append(odd, s.scriptedFor(fmt.Sprintf("odd-%d", i), host, accept))
	}
	all := func(p fleet.Pair) func() error {
		return func() error {
			if got := sent(s.contentOf(p), odd); len(got) < len(odd) {
				return fmt.Errorf("only %q were sent it", got)
			}
			return s.serves(host, p)
		}
	}
	s.eventually(all(first))

	good := s.issue(host)
	s.writePair(host, good)
	s.eventuallyWithin(time.Second, all(good))

	bad := s.issue(host)
	for _, n := range odd {
		n.follow(refusesThat(s.contentOf(bad), words))
	}
	s.writePair(host, bad)
	s.eventuallyWithin(time.Second, func() error { return s.serves(host, bad) })
	time.Sleep(4 * time.Second) // more than the first may take to answer
	if got := sent(s.contentOf(bad), odd); len(got) != 1 {
		t.Errorf("%q were sent what the first refused", got)
	}
	if r := s.lockstep("status"); r.code != 3 || !strings.Contains(r.err, words) ||
		!strings.Contains(r.err, host) || !strings.Contains(r.err, "--now") {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
	if n := s.metric("lockstep_certificates_refused_first"); n != 1 {
		t.Errorf("%v certificates are counted as refused", n)
	}
	late := s.scriptedFor("late", host, accept)
	s.eventually(func() error {
		if !late.wasSent(s.contentOf(good)) {
			return errNotYet
		}
		return nil
	})
	if late.wasSent(s.contentOf(bad)) {
		t.Error("a node that came later was sent what the first refused")
	}

	s.mustRun("cert", "put", host, "--now", "--cert", s.file("put.crt", bad.Chain), "--key", s.file("put.key", bad.Key))
	odd = append(odd, late)
	s.eventuallyWithin(time.Second, all(bad))
	cured := s.issue(host)
	s.writePair(host, cured)
	s.eventuallyWithin(time.Second, all(cured))
	if n := s.metric(`lockstep_certificate_trials_total{outcome="silent"}`); n != 0 {
		t.Errorf("%v nodes are counted that did not answer", n)
	}
}

// TestReplicasTryARenewalOnOneNode: nodes of one kind are spread over two replicas.
func TestReplicasTryARenewalOnOneNode(t *testing.T) {
	r := replicas(t, 2, func(s *stage) string { var url string; return oneRedis(s, &url, nil) })
	host := r.hosts[0]
	var odd []*scripted
	for i, p := range r.planes {
		r.ask(p)
		for j := range 2 {
			odd = append(odd, r.scriptedFor(fmt.Sprintf("odd-%d-%d", i, j), host, accept))
		}
	}
	all := func(p fleet.Pair) func() error {
		return func() error {
			if got := sent(r.contentOf(p), odd); len(got) < len(odd) {
				return fmt.Errorf("only %q were sent it", got)
			}
			return r.stage.serves(host, p)
		}
	}
	good := r.issue(host)
	r.writePair(host, good)
	r.eventuallyWithin(2*time.Second, all(good))
	bad := r.issue(host)
	for _, n := range odd {
		n.follow(refusesThat(r.contentOf(bad), "no"))
	}
	r.writePair(host, bad)
	r.eventuallyWithin(2*time.Second, func() error { return r.stage.serves(host, bad) })
	time.Sleep(8 * time.Second) // more than a refresh, and what the first may take to answer
	if got := sent(r.contentOf(bad), odd); len(got) != 1 {
		t.Errorf("%q were sent what the first refused", got)
	}
}
