package e2e

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// oneRedis is a store on one server.
func oneRedis(s *stage, url *string, server **fleet.RedisServer) string {
	s.t.Helper()
	redis, err := s.fleet.Redis(s.ctx, "store")
	s.ok(err)
	*url = "redis://" + redis.Addr
	if server != nil {
		*server = redis
	}
	return *url
}

// TestADamagedRecordIsNotServed: each record that replicas share is flipped, truncated and
// exchanged for another one in the store of a running fleet. It is found and named, nothing of what
// is served changes, and all goes on when the record is back, or at once where a replica knows what
// belongs there.
func TestADamagedRecordIsNotServed(t *testing.T) {
	t.Parallel() // it mostly waits
	var url string
	r := replicas(t, 2, func(s *stage) string { return oneRedis(s, &url, nil) })
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	raw := r.records(url)
	flipped := func(val []byte) []byte { val = bytes.Clone(val); val[len(val)/2] ^= 1; return val }
	truncated := func(val []byte) []byte { return val[:len(val)*2/3] }
	all := func(key, other string) [][]byte { // the ways to damage it
		val := raw.read(key)
		return [][]byte{flipped(val), truncated(val), raw.read(other)}
	}
	named := func(r *replicated, key string) {
		r.t.Helper()
		r.logged(r.complains(key, "does not open"), `record \"`+key+`\" does not open`)
	}
	how := []string{"flipped", "truncated", "exchanged"}

	t.Run("the ring", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		before, right := r.scope(), raw.read("ring/default")
		for i, bad := range all("ring/default", "audit/head") {
			raw.write("ring/default", bad)
			damaged := time.Now()
			named(r, "ring/default")
			r.stays(a, before, "the ring "+how[i], 300*time.Millisecond)
			if i == 0 { // somebody puts it back, perhaps before the replicas do
				raw.write("ring/default", right)
			}
			r.content()
			t.Logf("the ring %s: whole again after %s", how[i], time.Since(damaged).Round(10*time.Millisecond))
			r.same(before, "the ring was "+how[i])
			r.instep(a, "the ring "+how[i], 2, 5*time.Second)
			before, right = r.scope(), raw.read("ring/default")
		}
		if !slices.ContainsFunc(r.history(), func(l line) bool {
			return l.What == "written-back" && strings.Contains(l.Why, "damaged")
		}) {
			t.Error("the history does not say that the ring was written back")
		}
		if out := r.mustRun("audit", "show", "--last", "40"); !strings.Contains(out, "written-back") {
			t.Errorf("nor does the audit log: %s", out)
		}
	})
	t.Run("the audit log", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		before, right := r.scope(), raw.read("audit/head")
		for i, bad := range all("audit/head", "ring/default") {
			raw.write("audit/head", bad)
			r.refuses("the audit log " + how[i])
			named(r, "audit/head")
			r.broken("audit/head is not as it was written", "cut-off")
			r.stays(a, before, "the audit log "+how[i], 300*time.Millisecond)
		}
		raw.write("audit/head", right)
		r.instep(a, "the audit log was damaged", 2, 5*time.Second)
		r.content()
	})
	t.Run("a certificate", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		host := r.hosts[0]
		key := store.Key("cert", host)
		before := r.scope()
		for i, bad := range all(key, store.Key("cert", r.hosts[1])) {
			raw.write(key, bad)
			r.logged(r.complains(host, "cannot be loaded"), `record \"`+key+`\" does not open`)
			if out := r.mustRun("cert", "list"); !strings.Contains(out, "does not open") ||
				!strings.Contains(out, r.hosts[1]) {
				t.Errorf("cert list says %s", out)
			}
			r.mustFail(1, "does not open", "cert", "get", host)
			r.stays(a, before, "a certificate "+how[i], 300*time.Millisecond)
			renewed := r.issue(host)
			r.writePair(host, renewed)
			put := time.Now()
			for _, e := range r.envoys {
				r.eventually(func() error { return r.shows(e, host, renewed) })
			}
			t.Logf("a certificate %s: another one is served %s after it was put",
				how[i], time.Since(put).Round(10*time.Millisecond))
		}
		r.content()
		r.instep(a, "a certificate was damaged", 2, 5*time.Second)
	})
	t.Run("the rosters", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		var keys []string
		for _, p := range r.planes {
			keys = append(keys, store.Key("roster", "default", r.id(p)))
		}
		before := r.scope()
		for i, bad := range all(keys[0], keys[1]) {
			key := keys[i%2]
			r.eventually(func() error { // a replica that writes its own this very moment is first
				raw.write(key, bad)
				time.Sleep(1500 * time.Millisecond)
				for _, p := range r.planes {
					if said := r.complaints(p); hasAll(said, []string{key, "does not open"}) {
						r.logged(p, `record \"`+key+`\" does not open`)
						return nil
					}
				}
				return errNotYet
			})
		}
		damaged := time.Now()
		r.stays(a, before, "the rosters were damaged", 300*time.Millisecond)
		r.content() // each replica writes its own again
		t.Logf("the rosters are whole again after %s, by what the replicas know",
			time.Since(damaged).Round(10*time.Millisecond))
		r.instep(a, "the rosters were damaged", 2, 5*time.Second)
	})
	if out := r.mustRun("audit", "verify"); !strings.Contains(out, "none missing") {
		t.Errorf("in the end audit verify says %s", out)
	}
	t.Run("the audit log, and nobody has it", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		raw.write("audit/head", flipped(raw.read("audit/head")))
		r.refuses("the audit log is lost")
		r.ok(r.planes[1].Kill())
		r.ok(r.planes[1].Restart())
		r.ok(r.planes[1].Ready(r.ctx)) // nodes are let in
		r.mustRun("audit", "mend")
		r.instep(a, "the audit log was mended", 2, 5*time.Second)
		r.broken("is missing", "are missing")
		r.content()
	})
	for _, l := range r.history() {
		if !slices.Contains([]string{"distributing", "promoting", "done", "retired", "written-back"}, l.What) {
			t.Errorf("in the history: %+v", l)
		}
	}
	t.Run("the ring, and no replica has it", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		before := r.scope()
		for _, p := range r.planes {
			r.ok(p.Kill())
		}
		raw.write("ring/default", flipped(raw.read("ring/default")))
		for _, p := range r.planes {
			r.ok(p.Restart())
		}
		for _, p := range r.planes {
			r.eventually(func() error {
				if said := r.at(p).lockstep("-o", "json", "status"); !hasAll(said.out,
					[]string{"lockstep burn default", "lockstep restore"}) {
					return fmt.Errorf("%s: %s%s", p.Name(), said.out, said.err)
				}
				return nil
			})
		}
		r.refuses("nobody has the ring")
		r.serves(a, "the ring is damaged and no replica has it", time.Second)
		a.stop() // the tickets of what is burnt are refused, as they must be
		r.mustRun("burn", "--yes", "--why", "the ring is lost")
		r.awaitPhase("steady", 2)
		if now := r.scope(); generation(now.Version) <= generation(before.Version) ||
			slices.Contains(now.ids(), before.key("encrypt")) {
			t.Errorf("%s %v became %s %v", before.Version, before.ids(), now.Version, now.ids())
		}
		r.content()
		b := r.clients()
		r.instep(b, "every key was replaced", 2, 5*time.Second)
	})
}

// in is the fleet as a subtest sees it.
func (r *replicated) in(t *testing.T) *replicated {
	sub := *r
	sub.stage = r.stage.in(t)
	return &sub
}

// broken demands that audit verify finds something, and one of these words.
func (r *replicated) broken(words ...string) {
	r.t.Helper()
	got := r.lockstep("audit", "verify")
	if got.code != 1 || !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(got.out, w) }) {
		r.t.Errorf("audit verify: exit code %d, want 1: %s%s", got.code, got.out, got.err)
	}
}

// TestARecordOfYesterdayIsNotServed: a ring is put back into the store of a running fleet, through
// the store and behind its back, and again while one replica is away; then an audit log. Nobody is
// sent the old ring, and the audit log shows its break.
func TestARecordOfYesterdayIsNotServed(t *testing.T) {
	t.Parallel() // it mostly waits
	var url string
	var redis *fleet.RedisServer
	r := replicas(t, 2, func(s *stage) string { return oneRedis(s, &url, &redis) })
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	raw := r.records(url)
	const ring, head = "ring/default", "audit/head"
	behind := func(key string, val []byte) { // no revision tells of it
		t.Helper()
		_, err := redis.Do(r.ctx, "SET", "{lockstep}:v:"+key, val)
		r.ok(err)
	}
	for _, how := range []struct {
		name string
		put  func(key string, val []byte)
		away bool
	}{{"through the store", raw.write, false}, {"behind its back", behind, false},
		{"while a replica is away", behind, true}} {
		t.Run(how.name, func(t *testing.T) {
			r := r.in(t)
			a := a.in(r.stage)
			old := raw.read(ring)
			for range 2 {
				r.mustRun("rotate", "--wait", "--timeout", "10s", "--why", how.name)
			}
			r.awaitPhase("steady", 2)
			a.awaitKeyInUse()
			a.cross(how.name)
			before := r.scope()
			gone := r.planes[1]
			if how.away {
				r.ok(gone.Kill())
			}
			how.put(ring, old)
			put := time.Now()
			if how.away {
				r.ok(gone.Restart())
				r.ok(gone.Ready(r.ctx))
				t.Logf("the replica that was away is ready %s after the ring was put back",
					time.Since(put).Round(10*time.Millisecond))
			}
			written := func() error {
				if now := raw.read(ring); bytes.Equal(now, old) {
					return fmt.Errorf("the store still holds the old ring")
				}
				return nil
			}
			r.eventually(written)
			t.Logf("the newer ring was written back after %s", time.Since(put).Round(10*time.Millisecond))
			for _, p := range r.planes {
				r.ask(p)
				r.eventually(func() error {
					now := r.scope()
					if now.Version != before.Version || !slices.Equal(now.ids(), before.ids()) {
						return fmt.Errorf("%s has %s %v, want %s %v",
							p.Name(), now.Version, now.ids(), before.Version, before.ids())
					}
					return nil
				})
			}
			r.ask(r.planes[0])
			if last := r.history(); !slices.ContainsFunc(last, func(l line) bool {
				return l.What == "written-back" && l.At.After(put.Add(-5*time.Second))
			}) {
				t.Errorf("the history does not say that the ring was written back: %+v", last[len(last)-1])
			}
			a.cross("the ring was put back")
			r.awaitPhase("steady", 2)
			r.instep(a, "the ring was put back "+how.name, 2, 5*time.Second)
			if out := r.mustRun("audit", "verify"); !strings.Contains(out, "none missing") {
				t.Errorf("audit verify says %s", out)
			}
		})
	}
	t.Run("while all replicas are away", func(t *testing.T) {
		// the mark in the data directory alone knows of it
		r, a := r.in(t), a.in(r.in(t).stage)
		old := raw.read(ring)
		r.mustRun("rotate", "--wait", "--timeout", "10s", "--why", "all are away")
		a.awaitKeyInUse()
		before := r.scope()
		for _, p := range r.planes {
			r.ok(p.Kill())
		}
		newer := raw.read(ring)
		raw.write(ring, old)
		for _, p := range r.planes {
			r.ok(p.Restart())
		}
		for _, p := range r.planes {
			r.eventually(func() error {
				if said := r.at(p).lockstep("-o", "json", "status"); !strings.Contains(said.out,
					"older than what was sent before") {
					return fmt.Errorf("%s: %s%s", p.Name(), said.out, said.err)
				}
				return nil
			})
			r.logged(p, "older than what was sent before")
		}
		r.refuses("the ring was put back")
		a.check("the ring was put back and no replica has the newer one")
		r.serves(a, "the ring was put back and no replica has the newer one", time.Second)
		raw.write(ring, newer)
		r.same(before, "the newer ring came back")
		r.instep(a, "the newer ring came back", 2, 5*time.Second)
	})
	for _, l := range r.history() {
		if l.What == "burning" {
			t.Errorf("keys were burnt: %+v", l)
		}
	}

	t.Run("while all replicas are away, with what they remember", func(t *testing.T) {
		// only the nodes know of it
		r, b := r.in(t), a.in(r.in(t).stage)
		old := raw.read(ring)
		r.mustRun("rotate", "--wait", "--timeout", "10s", "--why", "all are away")
		b.stop() // the newest tickets are refused, as the store has lost their key
		proven := fmt.Sprintf("nodes hold g%d,", generation(r.scope().Version))
		for _, p := range r.planes {
			r.ok(p.Kill())
			r.ok(os.Remove(p.Data + "/generations.json"))
		}
		raw.write(ring, old)
		for _, p := range r.planes {
			r.ok(p.Restart())
			r.ok(p.Ready(r.ctx))
		}
		r.awaitPhase("steady", 2)
		for _, p := range r.planes {
			r.eventually(func() error {
				if said := r.complaints(p); !hasAll(said, []string{"scope default", proven, "lockstep burn default"}) {
					return fmt.Errorf("%s says %q, want %q", p.Name(), said, proven)
				}
				return nil
			})
		}
		if out := r.mustRun("audit", "show", "--last", "20"); !hasAll(out, []string{"rebased", "burnt"}) {
			t.Errorf("the audit log: %s", out)
		}
		r.mustRun("burn", "--yes", "--why", "one may have been burnt")
		r.awaitPhase("steady", 2)
		r.content()
	})
	a = r.clients()
	a.awaitKeyInUse()

	old := raw.read(head)
	r.mustRun("rotate", "--wait", "--timeout", "10s")
	raw.write(head, old)
	r.broken("cut-off", "missing")
	r.instep(a, "the audit log was put back", 2, 5*time.Second)
	r.broken("missing")
	b := r.mustRun("audit", "show", "--last", "20")
	if !strings.Contains(b, "audit-broken") {
		t.Errorf("the audit log does not show its break: %s", b)
	}
	a.cross("the end")
}
