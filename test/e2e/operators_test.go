package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestOperatorsHaveTokensWithRoles tries each role on each kind of route, at two replicas that know
// the same tokens. A token that has ended, or was revoked, lets nobody in. The audit log and the
// history name who it was.
func TestOperatorsHaveTokensWithRoles(t *testing.T) {
	t.Parallel() // it mostly waits
	var url string
	var redis *fleet.RedisServer
	free, err := fleet.Addr()
	if err != nil {
		t.Fatal(err)
	}
	r := replicas(t, 1, func(s *stage) string { return oneRedis(s, &url, &redis) }, "--metrics-listen", free)
	r.join("replica-2", url)
	one, two := r.planes[0], r.planes[1]

	token := func(args ...string) (file string) {
		t.Helper()
		file = r.path(args[1] + ".token")
		secret := r.mustRun(append([]string{"token", "new", "--name"}, args[1:]...)...)
		if !strings.HasPrefix(secret, "lockstep_") || strings.Count(secret, "\n") != 1 {
			t.Errorf("token new printed %q, want the token alone", secret)
		}
		r.ok(os.WriteFile(file, []byte(secret), 0o600))
		return file
	}
	reader := token("--name", "ann", "--role", "read")
	operator := token("--name", "bob", "--role", "operate")
	scoped := token("--name", "cas", "--role", "operate", "--scope", "default")
	admin := token("--name", "dee", "--role", "admin")
	brief := token("--name", "eve", "--role", "read", "--ttl", "3s")
	r.mustFail(5, "there is such a token", "token", "new", "--name", "ann", "--role", "admin")
	r.mustFail(2, "goes with the role operate", "token", "new", "--name", "x", "--role", "read", "--scope", "default")
	r.mustFail(4, "no scope", "token", "new", "--name", "x", "--role", "operate", "--scope", "nosuch")
	if out := r.mustRun("token", "list"); !hasAll(out, []string{"ann", "cas", "local administrator (claims "}) {
		t.Errorf("token list: %s", out)
	}

	// Each kind of route, with the lowest role that may use it.
	pair, key := r.issue("op.example"), keysource.NewTicketKey()
	r.ok(os.WriteFile(r.path("op.crt"), pair.Chain, 0o600))
	r.ok(os.WriteFile(r.path("op.key"), pair.Key, 0o600))
	r.ok(os.WriteFile(r.path("80.key"), key[:], 0o600))
	roles := []string{"read", "operate", "admin"}
	files := map[string]string{"read": reader, "operate": operator, "admin": admin}
	for _, c := range []struct {
		from   int  // from is the lowest of roles that may.
		scoped bool // scoped says that one that is bound to the scope default may, too.
		args   []string
	}{
		{0, true, []string{"status"}},
		{0, true, []string{"audit", "show"}},
		{0, true, []string{"kek", "status"}},
		{1, true, []string{"rotate"}},
		{1, false, []string{"cert", "put", "op.example", "--cert", r.path("op.crt"), "--key", r.path("op.key")}},
		{1, false, []string{"cert", "rm", "--confirm"}},
		{2, false, []string{"token", "list"}},
		{2, false, []string{"store", "thaw"}},
		{2, false, []string{"rotate", "--key-file", r.path("80.key")}},
		{2, false, []string{"kek", "retire"}},
	} {
		for i, role := range roles {
			for _, p := range []*fleet.Lockstepd{one, two} {
				r.ask(p)
				r.eventually(func() error { // the other replica knows it within a refresh
					got := r.lockstep(append([]string{"--token-file", files[role]}, c.args...)...)
					denied := got.code == 5 && strings.Contains(got.err, " has the role "+role)
					if denied != (i < c.from) {
						return fmt.Errorf("%s with the role %s: exit code %d: %s", c.args, role, got.code, got.err)
					}
					return nil
				})
			}
		}
		got := r.lockstep(append([]string{"--token-file", scoped}, c.args...)...)
		denied := strings.Contains(got.err, "has the role operate") ||
			strings.Contains(got.err, "the scope default only")
		if denied == c.scoped {
			t.Errorf("%s, bound to a scope: exit code %d: %s", c.args, got.code, got.err)
		}
	}
	r.ask(one)

	// Ended, and revoked.
	r.eventually(func() error {
		if got := r.lockstep("status", "--token-file", brief); got.code != 5 ||
			!strings.Contains(got.err, "eve ended at") {
			return fmt.Errorf("after its time: exit code %d: %s", got.code, got.err)
		}
		return nil
	})
	r.mustRun("token", "revoke", "ann")
	r.mustFail(5, "was revoked", "status", "--token-file", reader)
	r.ask(two)
	r.eventually(func() error {
		if got := r.lockstep("status", "--token-file", reader); got.code != 5 ||
			!strings.Contains(got.err, "was revoked") {
			return fmt.Errorf("at the other replica: exit code %d: %s", got.code, got.err)
		}
		return nil
	})
	r.mustFail(4, "no such token", "token", "revoke", "ann")

	// Who it was, in the same words everywhere.
	var by []string
	for _, l := range r.history() {
		by = append(by, l.By)
	}
	log := r.mustRun("audit", "show", "--last", "100")
	for _, who := range []string{"token bob (claims ", "token cas (claims ", "token dee (claims "} {
		if !strings.Contains(strings.Join(by, "\n"), who) && who != "token dee (claims " {
			t.Errorf("the history names nobody as %q: %v", who, by)
		}
		if !strings.Contains(log, "by "+who) {
			t.Errorf("the audit log names nobody as %q:\n%s", who, log)
		}
	}
	if !hasAll(log, []string{"token-new ann", "token-revoked ann"}) {
		t.Errorf("the audit log has no line of a token:\n%s", log)
	}

	// What is refused after its line was written is recorded as refused.
	r.ask(one)
	r.ok(two.Pause()) // so that the new sealing key goes on waiting for it
	if got := r.lockstep("kek", "rotate", "--timeout", "3s"); got.code == 0 {
		t.Error("a sealing key was changed without a replica that is paused")
	}
	r.mustFail(5, "does not seal yet", "kek", "retire")
	r.ok(two.Resume())
	log = r.mustRun("audit", "show", "--last", "2")
	if lines := strings.Split(log, "\n"); !hasAll(lines[0], []string{" kek-retire,", "NOT DONE"}) ||
		!hasAll(lines[1], []string{" kek-retire-refused,", "does not seal yet"}) {
		t.Errorf("a refused action reads as\n%s", log)
	}
	r.mustRun("audit", "verify")

	// Anybody else on the machine.
	get := func(addr, path string, header ...string) (code int, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "http://"+addr+path, nil)
		r.ok(err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		r.ok(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		r.ok(err)
		return resp.StatusCode, string(b)
	}
	reads := []string{"/v1/status", "/v1/nodes", "/v1/nodes?here", "/v1/pulse", "/v1/audit", "/v1/tokens",
		"/debug/pprof/heap", "/debug/pprof/cmdline"}
	for _, path := range reads {
		if code, body := get(one.Admin, path); code != 403 ||
			!hasAll(body, []string{"lockstep token new", "Authorization: Bearer", "/metrics"}) {
			t.Errorf("%s without a token: %d %s", path, code, body)
		}
	}
	if code, body := get(one.Admin, "/v1/pulse", "Lockstep-Replica", "x 1 2 3"); code != 403 {
		t.Errorf("with a forged proof: %d %s", code, body)
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		for _, addr := range []string{one.Admin, free} {
			if code, body := get(addr, path); code != 200 || body == "" {
				t.Errorf("%s%s: %d %s", addr, path, code, body)
			}
		}
	}
	for _, path := range append(reads, "/", "/debug/pprof/", "/v1/scopes/default/rotate") {
		if code, _ := get(free, path, "Authorization", "Bearer x"); code != 404 {
			t.Errorf("--metrics-listen serves %s: %d", path, code)
		}
	}
	if n := strings.Count(one.LogTail(10_000), "the admin API refused a request"); n < 1 || n > 12 {
		t.Errorf("%d lines of the log tell of refused requests, want a few", n)
	}

	// Replicas ask each other while the store is away: each has the key in memory.
	r.ok(redis.Pause())
	for _, p := range []*fleet.Lockstepd{one, two} {
		r.ask(p)
		var nodes struct{ Silent []string }
		out := r.lockstep("nodes", "-o", "json")
		if err := json.Unmarshal([]byte(out.out), &nodes); err != nil || len(nodes.Silent) > 0 {
			t.Errorf("%s, while the store is away: %v %v %s", p.Name(), nodes.Silent, err, out.err)
		}
	}
	r.ok(redis.Resume())
	r.ask(one)
	r.eventually(func() error {
		if got := r.lockstep("rotate", "--token-file", operator); got.code != 0 {
			return errors.New(got.err)
		}
		return nil
	})
}
