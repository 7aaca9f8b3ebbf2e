package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// grants is what explain --key and --cert say.
type grants struct {
	Received []struct{ Node, Replica, Name, Version, State string }
	Open     bool
	May      []struct {
		Rule     int
		Identity string
	}
	Recorded []struct{ What string }
	Unknown  []string
	Silent   []string
}

// granted waits until a replica names these nodes, each with its replica, as those that received a
// key or a certificate. silent is the one replica that has not answered, or "".
func (r *replicated) granted(at *fleet.Lockstepd, within time.Duration, silent string, flags []string, want ...string) (
	g grants,
) {
	r.t.Helper()
	r.eventuallyWithin(within, func() error {
		g = grants{}
		if err := r.at(at).show(&g, append([]string{"explain"}, flags...)...); err != nil {
			return err
		}
		var got []string
		for _, n := range g.Received {
			got = append(got, strings.Join(strings.Fields(n.Node+" "+n.Replica+" "+n.State), " "))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%s says of %v: received by %v, want %v; silent %q",
				at.Name(), flags, got, want, g.Silent)
		}
		if said := strings.Join(g.Silent, " "); (silent == "") != (said == "") || !strings.HasPrefix(said, silent) ||
			len(g.Silent) > 1 {
			return fmt.Errorf("%s says of %v that these are silent: %q, want %q", at.Name(), flags, g.Silent, silent)
		}
		return nil
	})
	return g
}

// TestWhoReceivedAKeyIsKnownOverReplicasAndRestarts: two lockstepd with a real Envoy at each.
// Either of them names both Envoys. Over a restart nobody is lost. A replica that is killed, or
// hangs, is named as silent, and what only it knew is not called nobody.
func TestWhoReceivedAKeyIsKnownOverReplicasAndRestarts(t *testing.T) {
	t.Parallel() // it mostly waits
	url := ""
	r := replicas(t, 2, func(s *stage) string { return oneRedis(s, &url, nil) })
	r.moreTime(4 * time.Minute)
	one, two := r.planes[0], r.planes[1]
	ids := []string{r.id(one), r.id(two)}
	r.eagerAt(one.XDS, "edge-1", r.hosts)
	r.eagerAt(two.XDS, "edge-2", r.hosts)
	r.awaitReady()
	r.awaitPhase("steady", 2)
	key := []string{"--key", r.scope().key("encrypt")}
	cert := []string{"--cert", r.hosts[0]}
	both := []string{"edge-1 " + ids[0] + " accepted", "edge-2 " + ids[1] + " accepted"}
	all := func(within time.Duration) {
		t.Helper()
		for _, at := range r.planes {
			for _, of := range [][]string{key, cert} {
				g := r.granted(at, within, "", of, both...)
				if !g.Open || len(g.May) > 0 || len(g.Unknown) == 0 || of[0] == "--key" && len(g.Recorded) == 0 {
					t.Errorf("%+v", g)
				}
			}
		}
	}
	all(30 * time.Second)

	// A restart: each Envoy comes back, and says what it holds.
	r.ok(two.Stop(30 * time.Second))
	r.ok(two.Restart())
	r.ok(two.Ready(r.ctx))
	all(time.Minute)

	// The next key, too. (The one before leaves the ring soon.)
	r.mustRun("rotate", "--wait", "--timeout", "30s")
	key[1] = r.scope().key("encrypt")
	all(30 * time.Second)

	// One that hangs is silent at once. Its Envoy is on the roster, for the key.
	r.ok(two.Pause())
	r.granted(one, 30*time.Second, ids[1], key, both...)
	r.granted(one, 30*time.Second, ids[1], cert, both[0])

	// So is one that was killed, also after a restart of the one that is asked.
	r.ok(two.Kill())
	r.ok(one.Stop(30 * time.Second))
	r.ok(one.Restart())
	r.ok(one.Ready(r.ctx))
	r.granted(one, time.Minute, ids[1], cert, both[0])
	r.ask(one)
	if got := r.lockstep("explain", "--cert", "nobody.example"); !strings.Contains(got.out, ids[1]) ||
		!strings.Contains(got.out, "not every replica has answered") {
		t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	if err := errors.Join(two.Restart(), two.Ready(r.ctx)); err != nil {
		t.Fatal(err)
	}
	all(time.Minute)
}
