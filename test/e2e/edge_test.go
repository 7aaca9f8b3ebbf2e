package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// edge starts a lockstep-edge in front of the upstream, with a data directory of its own. It stands
// among the Envoys, as a node like them; more is YAML.
func (s *stage) edge(name, more string) *envoy {
	s.t.Helper()
	return s.edgeOf(bin, name, more)
}

// edgeOf starts the lockstep-edge of a folder.
func (s *stage) edgeOf(bin, name, more string) *envoy {
	s.t.Helper()
	e := s.place(name)
	s.ok(os.MkdirAll(s.path(name+".data"), 0o700))
	config := fmt.Sprintf("node: %s\nxds: %q\ndata_dir: %s\nadmin_listen: %q\nticket_lifetime: %s\n"+
		"access_log: \"off\"\nlisteners: [{address: %q, scope: default}]\n"+
		"routes: [{host: \"*\", path: /, upstreams: [\"http://%s\"]}]\n%s",
		name, s.plane.XDS, s.path(name+".data"), e.admin, lifetime, e.addr, s.upstream.Addr, more)
	var err error
	e.Process, err = s.fleet.Edge(bin, name, []byte(config), e.admin)
	s.ok(err)
	s.envoys = append(s.envoys, e)
	return e
}

// logged returns what an edge's log says under a key in its lines with that message, in order.
func (e *envoy) logged(message, key string) []string { return logged(e.LogFile(), message, key) }

func logged(file, message, key string) (all []string) {
	b, _ := os.ReadFile(file)
	for _, line := range bytes.Split(b, []byte("\n")) {
		var said map[string]any
		if json.Unmarshal(line, &said) == nil && said["msg"] == message {
			all = append(all, fmt.Sprint(said[key]))
		}
	}
	return all
}

const lastGoodUsed = "the control plane does not answer: the last-good ticket keys are used"

// session makes one at a node.
func (s *stage) ticket(e *envoy) *probe.Session {
	s.t.Helper()
	r, err := probe.Dial(s.ctx, e.addr, probe.Config{SNI: s.hosts[0], RootCAs: s.ca.Pool()}, nil)
	s.ok(err)
	if r.Session == nil {
		s.t.Fatalf("%s gave no ticket", e.name)
	}
	return r.Session
}

// offered reports whether a session resumes at a node.
func (s *stage) offered(e *envoy, offer *probe.Session) bool {
	s.t.Helper()
	r, err := probe.Dial(s.ctx, e.addr, probe.Config{SNI: s.hosts[0], RootCAs: s.ca.Pool()}, offer)
	s.ok(err)
	return r.Resumed
}

// TestEdgesRotateWithEnvoys: two edges and two Envoys of one scope go through three rotations and
// the end of lockstepd together; each kind's tickets resume at the other node of its kind, always.
func TestEdgesRotateWithEnvoys(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{})
	edges := []*envoy{s.edge("edge-1", ""), s.edge("edge-2", "")}
	envoys := []*envoy{s.envoy("envoy-1"), s.envoy("envoy-2")}
	s.awaitReady()
	s.awaitPhase("steady", 4)
	ours, theirs := s.clients(edges...), s.clients(envoys...)
	for i := range 3 {
		s.mustRun("rotate", "--wait")
		for _, a := range []*account{ours, theirs} {
			a.awaitKeyInUse()
			a.cross(fmt.Sprintf("rotation %d", i+1))
		}
	}
	out := s.mustRun(s.verify(edges...)...)
	if strings.Count(out, "4 of 4 sessions resumed") != 2 {
		t.Errorf("the probe: %s", out)
	}
	s.mustFail(1, "did not resume", s.verify(edges[0], envoys[0])...) // two kinds

	s.ok(s.plane.Kill())
	for _, a := range []*account{ours, theirs} {
		a.check("the end of lockstepd")
	}
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	s.awaitPhase("steady", 4)
	s.mustRun("rotate", "--wait")
	for _, a := range []*account{ours, theirs} {
		a.awaitKeyInUse()
		a.cross("a rotation after it came back")
	}
	// What is renewed is served, and sessions go on.
	s.renew(s.hosts[0])
	ours.check("a renewal")
	counts, _ := ours.Counts()
	for v, kind := range traffic.Kinds {
		t.Logf("edges, %s: %d handshakes, %d live tickets offered, %d resumed",
			kind, counts[v].Handshakes, counts[v].Offered, counts[v].Resumed)
	}
}

// TestAnEdgeStartsFromItsLastGoodCopy: kill -9 of an edge while there is no control plane, and what
// may be wrong with the copy that it starts from.
func TestAnEdgeStartsFromItsLastGoodCopy(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{})
	e := s.edge("edge-1", "timeouts: {load: 1s}")
	s.awaitReady()
	s.awaitPhase("steady", 1)
	live := s.ticket(e)
	rings, certs := filepath.Join(s.path("edge-1.data"), "last-good-rings"),
		filepath.Join(s.path("edge-1.data"), "last-good-certificates")
	s.eventually(func() error { return errors.Join(exists(rings), exists(certs)) })
	first, err := os.ReadFile(rings)
	s.ok(err)
	ring := s.scope().Version
	s.ok(s.plane.Kill())

	restart := func() {
		t.Helper()
		s.ok(e.Restart())
		s.eventually(e.listens)
	}
	s.ok(e.Kill())
	restart()
	s.ok(e.Ready(s.ctx))
	if used := e.logged(lastGoodUsed, "version"); len(used) != 1 || used[0] != ring {
		t.Errorf("keys of %v are used, want %s", used, ring)
	}
	if !s.offered(e, live) {
		t.Error("a session of before does not resume")
	}
	s.ticket(e) // the certificate is there
	start := time.Now()
	if err := s.reaches(e, "cold.example"); err == nil || time.Since(start) > 4*time.Second {
		t.Errorf("a cold name, after %s: %v", time.Since(start), err)
	}

	// A bit of it is another one.
	bad := bytes.Clone(first)
	bad[len(bad)/2] ^= 1
	s.ok(e.Kill())
	s.ok(os.WriteFile(rings, bad, 0o600))
	restart()
	s.eventually(func() error {
		if said := e.logged("refused", "error"); len(said) == 0 || !strings.Contains(said[len(said)-1], rings) {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	if err := notReady(s.ctx, e); err != nil {
		t.Error(err)
	}
	if s.offered(e, live) {
		t.Error("a session resumed without keys")
	}

	// The control plane is back, and burns the key: the copy of before is refused, by the key's
	// name.
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	s.ok(e.Ready(s.ctx))
	s.awaitPhase("steady", 1)
	burnt := s.scope().key("encrypt")
	s.mustRun("burn", "--yes", "--why", "test")
	s.awaitPhase("steady", 1)
	s.eventually(func() error {
		if b, err := os.ReadFile(rings); err != nil || bytes.Equal(b, bad) {
			return errNotYet
		}
		return nil
	})
	s.eventually(func() error { return exists(filepath.Join(s.path("edge-1.data"), "spent-keys")) })
	s.ok(s.plane.Kill())
	s.ok(e.Kill())
	s.ok(os.WriteFile(rings, first, 0o600))
	restart()
	s.eventually(func() error {
		if said := e.logged("refused", "error"); !strings.Contains(said[len(said)-1], burnt) {
			return fmt.Errorf("it says %q, want %s in it", said, burnt)
		}
		return nil
	})
	if s.offered(e, live) {
		t.Error("a session of a burnt key resumed")
	}
}

// notReady returns nil when an edge says, after the time that a control plane has to answer, that
// it is not ready.
func notReady(ctx context.Context, e *envoy) error {
	late, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if e.Ready(late) == nil {
		return errors.New("it is ready, and has no ticket keys")
	}
	return nil
}

func exists(file string) error {
	_, err := os.Stat(file)
	return err
}

// TestAnEdgeIsRestartedUnderLoad: three hand-overs to a new process while clients come, resume, and
// hold streams open. No handshake fails, no request either.
func TestAnEdgeIsRestartedUnderLoad(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{})
	e, other := s.edge("edge-1", "timeouts: {drain: 20s}"), s.edge("edge-2", "")
	s.awaitReady()
	s.awaitPhase("steady", 2)
	a := s.clients(e, other)
	const taken = "a new process has taken over"
	t.Cleanup(func() {
		for _, pid := range e.logged(taken, "pid") {
			if id := 0; scan(pid, &id) == nil {
				// the last of them; the others have ended, and none of our own comes after it
				syscall.Kill(id, syscall.SIGKILL)
			}
		}
	})
	for i := range 3 {
		open, err := traffic.Hold(s.ctx, map[string]string{"edge-1": e.addr}, s.hosts[0], s.ca.Pool())
		s.ok(err)
		pid := e.PID()
		if all := e.logged(taken, "pid"); len(all) > 0 {
			s.ok(scan(all[len(all)-1], &pid))
		}
		s.ok(syscall.Kill(pid, syscall.SIGHUP))
		s.eventually(func() error {
			if n := len(e.logged(taken, "pid")); n != i+1 {
				return fmt.Errorf("%d processes have taken over: %s", n, e.LogTail(5))
			}
			return nil
		})
		a.check(fmt.Sprintf("hand-over %d", i+1))
		a.awaitKeyInUse()
		_, before := open.Cut()
		s.eventually(func() error { // they go on, on the process that leaves
			cut, beats := open.Cut()
			if len(cut) > 0 {
				t.Fatalf("hand-over %d: these were cut: %v", i+1, cut)
			}
			if beats < before+4 {
				return errNotYet
			}
			return nil
		})
		open.Close()
		s.eventually(func() error { // the old one ends when its requests have
			if err := syscall.Kill(pid, 0); err == nil && i > 0 {
				return fmt.Errorf("process %d goes on", pid)
			}
			return nil
		})
	}
	a.cross("three hand-overs")
}

func scan(s string, into *int) error {
	_, err := fmt.Sscanf(s, "%d", into)
	return err
}

// TestARemovedHostEndsItsSessionsAtAnEdge: what has no certificate any more is not served by way of
// its tickets either, however long ago that was.
func TestARemovedHostEndsItsSessionsAtAnEdge(t *testing.T) {
	t.Parallel()
	const host = "stored.example"
	s := newStage(t, setup{})
	e := s.edge("edge-1", "")
	s.awaitReady()
	s.writePair(host, s.issue(host))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		old := s.session(e, host, version)
		resumes := func() error {
			if resumed, err := s.again(e, host, version, old); err != nil || !resumed {
				return fmt.Errorf("resumed: %t, %w", resumed, err)
			}
			return nil
		}
		s.ok(resumes())
		s.mustRun("cert", "rm", host)
		ended := func() error {
			if resumed, err := s.again(e, host, version, old); err == nil {
				return fmt.Errorf("it is served, resumed: %t", resumed)
			}
			return nil
		}
		s.eventually(ended)
		for range 12 { // longer than an absence is remembered
			time.Sleep(500 * time.Millisecond)
			s.ok(ended())
		}
		s.writePair(host, s.issue(host)) // it is the same host again
		s.eventually(resumes)
	}
}
