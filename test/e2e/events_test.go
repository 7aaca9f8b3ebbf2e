package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// connection is one of a client to a server of NATS, as the server's monitoring shows it.
type connection struct {
	server        *fleet.NATSServer
	ServerID      string
	CID           uint64
	Name          string
	Subscriptions int
}

// monitor reads a page of a server's monitoring.
func (r *replicated) monitor(s *fleet.NATSServer, page string, v any) error {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "http://"+s.Monitor+page, nil)
	r.ok(err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}

// connected lists the connections of lockstepd, of all servers that are up; those whose name begins
// so.
func (r *replicated) connected(name string) (all []connection) {
	r.t.Helper()
	for _, s := range r.events.Servers {
		var page struct {
			ServerID    string `json:"server_id"`
			Connections []struct {
				CID           uint64
				Name          string
				Subscriptions int
			}
		}
		if r.monitor(s, "/connz", &page) != nil {
			continue // it is down
		}
		for _, c := range page.Connections {
			if strings.HasPrefix(c.Name, name) {
				all = append(all, connection{s, page.ServerID, c.CID, c.Name, c.Subscriptions})
			}
		}
	}
	return all
}

// consumers counts those of JetStream, on all servers.
func (r *replicated) consumers() (n int) {
	r.t.Helper()
	for _, s := range r.events.Servers {
		var page struct{ Consumers int }
		r.ok(r.monitor(s, "/jsz", &page))
		n += page.Consumers
	}
	return n
}

// counts is how many connections and subscriptions these are.
func counts(all []connection) (n, subscriptions int) {
	for _, c := range all {
		subscriptions += c.Subscriptions
	}
	return len(all), subscriptions
}

const kicks = 100 // of each replica's connection for events; the store's are cut along

// TestTheEventsFail: they go over the NATS cluster that is the store, too. Connections are cut a
// hundred times, a replica that reads nothing is cut off as a slow consumer, and the server that
// one is connected to is killed.
func TestTheEventsFail(t *testing.T) {
	t.Parallel() // it mostly waits
	r := replicasOver(t, 2, func(s *stage) *fleet.NATS {
		n, err := s.fleet.NATS(s.ctx, "nats", 3,
			`accounts { SYS { users: [{user: sys, password: "for-the-test"}] }, `+
				`APP { jetstream: enabled, users: [{user: app, password: "for-the-test"}] } }`,
			"system_account: SYS", "no_auth_user: app", `write_deadline: "1s"`, "max_pending: 8MB")
		s.ok(err)
		return n
	}, nil)
	r.edges(2)
	r.awaitPhase("steady", 2)
	a := r.clients()
	r.instep(a, "the start", 2, 5*time.Second)
	t.Run("a hundred reconnects", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		wantConns, wantSubs := counts(r.connected("lockstep"))
		sys, err := nats.Connect("nats://"+r.events.Addrs(), nats.UserInfo("sys", "for-the-test"))
		r.ok(err)
		defer sys.Close()
		began := time.Now()
		cut := map[string]map[connection]bool{} // by name
		enough := func() bool {
			for _, p := range r.planes {
				if len(cut["lockstepd "+r.id(p)]) < kicks {
					return false
				}
			}
			return true
		}
		for round := 0; !enough(); round++ {
			if r.ctx.Err() != nil {
				t.Fatal(r.ctx.Err())
			}
			for _, c := range r.connected("lockstep") {
				_, err := sys.Request("$SYS.REQ.SERVER."+c.ServerID+".KICK",
					[]byte(fmt.Sprintf(`{"cid": %d}`, c.CID)), 5*time.Second)
				r.ok(err)
				if cut[c.Name] == nil {
					cut[c.Name] = map[connection]bool{}
				}
				c.Subscriptions = 0 // what is left tells it from all others
				cut[c.Name][c] = true
			}
			if round%20 == 0 {
				a.check("reconnects")
			}
		}
		took := time.Since(began)
		r.eventually(func() error {
			if conns, subs := counts(r.connected("lockstep")); conns != wantConns || subs != wantSubs {
				return fmt.Errorf("%d connections with %d subscriptions, before %d with %d: %+v",
					conns, subs, wantConns, wantSubs, r.connected("lockstep"))
			}
			return nil
		})
		n := r.consumers()
		for name, all := range cut {
			t.Logf("%s: %d connections were cut", strings.Fields(name)[0], len(all))
		}
		t.Logf("that took %s; after it there are %d connections with %d subscriptions, as before, and %d consumers",
			took.Round(10*time.Millisecond), wantConns, wantSubs, n)
		if n > len(r.planes) {
			t.Errorf("%d consumers are left of %d processes", n, len(r.planes))
		}
		r.instep(a, "a hundred reconnects", 2, 5*time.Second)
	})
	t.Run("a slow consumer", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		slow := r.planes[1]
		name := "lockstepd " + r.id(slow)
		was := r.connected(name)
		if len(was) != 1 {
			t.Fatalf("%+v", was)
		}
		app, err := nats.Connect("nats://" + r.events.Addrs())
		r.ok(err)
		defer app.Close()
		r.ok(slow.Pause())
		began := time.Now()
		junk := []byte(`{"kind":"nothing","why":"` + strings.Repeat("x", 4000) + `"}`)
		cut := func() error {
			for range 500 {
				r.ok(app.Publish("lockstep.events.rotation.default", junk))
			}
			r.ok(app.FlushTimeout(5 * time.Second))
			var vars struct {
				Slow int64 `json:"slow_consumers"`
			}
			r.ok(r.monitor(was[0].server, "/varz", &vars))
			if left := r.connected(name); vars.Slow == 0 || len(left) > 0 {
				return fmt.Errorf("%s has met %d slow consumers; the replica is still there: %+v",
					was[0].server.Name(), vars.Slow, left)
			}
			return nil
		}
		r.eventually(cut)
		t.Logf("the server cut the stopped replica off after %s", time.Since(began).Round(10*time.Millisecond))
		a.check("a replica was cut off")
		r.ok(slow.Resume())
		r.eventually(func() error {
			if now := r.connected(name); len(now) != 1 || now[0].CID == was[0].CID && now[0].server == was[0].server {
				return fmt.Errorf("%s has %+v", name, now)
			}
			return nil
		})
		r.instep(a, "a slow consumer", 2, 5*time.Second)
		r.wakes(slow, "the slow consumer is back")
	})
	t.Run("a server is killed", func(t *testing.T) {
		r, a := r.in(t), a.in(r.in(t).stage)
		p := r.planes[1]
		was := r.connected("lockstepd " + r.id(p))
		if len(was) != 1 {
			t.Fatalf("%+v", was)
		}
		r.ok(was[0].server.Kill())
		killed := time.Now()
		r.eventually(func() error {
			if now := r.connected("lockstepd " + r.id(p)); len(now) != 1 {
				return errNotYet
			}
			return nil
		})
		t.Logf("events come by another server after %s", time.Since(killed).Round(10*time.Millisecond))
		// it is the store's, too, which elects another leader first
		r.instep(a, "the loss of its server", 2, 12*time.Second)
		r.wakes(p, "its server was killed")
		r.ok(was[0].server.Restart())
		r.ok(was[0].server.Ready(r.ctx))
		r.instep(a, "the return of the server", 2, 5*time.Second)
		r.content()
	})
}

// wakes demands that events reach a replica.
func (r *replicated) wakes(p *fleet.Lockstepd, after string) {
	r.t.Helper()
	const received = `lockstep_events_total{outcome="received"}`
	at := r.at(p)
	if at.metric("lockstep_events_up") != 1 {
		r.t.Errorf("after %s, events are down at %s", after, p.Name())
	}
	before := at.metric(received)
	r.mustRun("rotate", "--wait", "--timeout", "10s", "--why", after)
	r.eventually(func() error {
		if now := at.metric(received); now < before+3 {
			return fmt.Errorf("after %s, %s received %v events of a rotation", after, p.Name(), now-before)
		}
		return nil
	})
}
