package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestTheRedisStoreShutsUsOut: the ACL user is switched off, gets another password, and may not
// write; each while the fleet runs, and then back. It needs no channel: what wakes the replicas is
// NATS, and when that falls silent, a rotation is seen within a refresh.
func TestTheRedisStoreShutsUsOut(t *testing.T) {
	t.Parallel() // it mostly waits
	var redis *fleet.RedisServer
	r := replicas(t, 2, func(s *stage) string {
		var err error
		redis, err = s.fleet.Redis(s.ctx, "store", "user lockstep on >first-password resetchannels ~{lockstep}:* "+
			"+@read +@write +@scripting +@connection +info +time +wait")
		s.ok(err)
		return "redis://lockstep@" + redis.Addr + "?password_file=" +
			s.file("redis.password", []byte("first-password\n"))
	})
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	do := func(args ...any) any {
		t.Helper()
		v, err := redis.Do(r.ctx, args...)
		r.ok(err)
		return v
	}
	acl := func(rules ...any) {
		t.Helper()
		do(append([]any{"ACL", "SETUSER", "lockstep"}, rules...)...)
		do("CLIENT", "KILL", "USER", "lockstep") // else what is connected stays in
	}
	for _, fault := range []struct {
		name       string
		make, undo func()
		says       string
	}{
		{"the user was switched off", func() { acl("off") }, func() { acl("on") }, "switched off"},
		{"another password", func() { acl("resetpass", ">second-password") },
			func() { r.file("redis.password", []byte("second-password\n")) }, "password_file holds another password"},
		{"no leave to write", func() { acl("-@write") }, func() { acl("+@write") }, "the ACL user needs"},
	} {
		fault.make()
		r.refuses(fault.name)
		p := r.complains("the store cannot be used", fault.says)
		r.logged(p, fault.says)
		r.serves(a, fault.name, 1500*time.Millisecond)
		fault.undo()
		r.instep(a, fault.name, 2, 5*time.Second)
		r.content()
	}
	if list := fmt.Sprint(do("CLIENT", "LIST", "TYPE", "pubsub")); strings.TrimSpace(list) != "" {
		t.Errorf("a replica subscribes to channels of Redis: %s", list)
	}

	// Silence: the server of the events is stopped in its tracks, so that neither a message nor an
	// error comes.
	r.ok(r.events.Servers[0].Pause())
	r.ask(r.planes[0])
	r.mustRun("rotate", "--why", "no event comes")
	began, want := time.Now(), r.scope().Version
	r.ask(r.planes[1])
	r.eventually(func() error {
		now := r.scope()
		if generation(now.Version) < generation(want) {
			return fmt.Errorf("%s, want %s", now.Version, want)
		}
		return nil
	})
	t.Logf("without events, the other replica saw the rotation after %s (refresh 1s)",
		time.Since(began).Round(10*time.Millisecond))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the other replica saw the rotation after %s, and refreshes each second", took)
	}
	r.awaitPhase("steady", 2)
	t.Logf("without events, the rotation took %s", time.Since(began).Round(10*time.Millisecond))
	a.awaitKeyInUse()
	a.cross("a rotation without events")
	r.ok(r.events.Servers[0].Resume())
	r.instep(a, "the return of the events", 2, 5*time.Second)
}

// generation is the number in the version of a ring.
func generation(version string) (n uint64) {
	_, _ = fmt.Sscanf(version, "g%d", &n)
	return n
}
