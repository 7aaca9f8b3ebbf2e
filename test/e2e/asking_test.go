package e2e

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/keysource"
)

// asker asks for rotations over NATS and counts the answers.
type asker struct {
	s     *stage
	conns []*nats.Conn

	mu      sync.Mutex
	granted int
	refused []string
}

// ask sends n requests to a scope, over all connections at once.
func (a *asker) ask(scope string, n int, pause time.Duration) {
	a.s.t.Helper()
	var wg sync.WaitGroup
	for i := range a.conns {
		wg.Go(func() {
			for range n / len(a.conns) {
				reply, err := a.conns[i].Request("lockstep.rotate."+scope, nil, 20*time.Second)
				a.mu.Lock()
				switch {
				case err != nil:
					a.s.t.Error(err)
				case reply.Header.Get("Nats-Service-Error-Code") == "":
					a.granted++
				default:
					a.refused = append(a.refused, reply.Header.Get("Nats-Service-Error-Code")+
						" "+reply.Header.Get("Nats-Service-Error"))
				}
				a.mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	wg.Wait()
}

// TestAskingNeverBlocksTheRotationsOfThePeriod: 15 requests in 3 s, and 200 at once, leave room for
// another requester, for a burn, and for every rotation of the period.
func TestAskingNeverBlocksTheRotationsOfThePeriod(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{scopes: "  default: {}\n  quick: {period: 4s, ticket_lifetime: 20s}\n"})
	s.fleetOf(1)
	s.awaitPhase("steady", 1)
	b, err := os.ReadFile(s.plane.Data + "/nats.token")
	s.ok(err)
	one := &asker{s: s}
	for range 4 {
		conn, err := s.outside(strings.TrimSpace(string(b)))
		s.ok(err)
		one.conns = append(one.conns, conn)
	}
	some := &asker{s: s, conns: one.conns[:1]}
	some.ask("default", 15, 200*time.Millisecond)
	one.ask("default", 200, 0)
	for _, a := range []*asker{some, one} {
		if len(a.refused) == 0 || !strings.HasPrefix(a.refused[0], "409 ") ||
			!strings.Contains(a.refused[0], "NATS has brought 6 of the ring's 7 keys") ||
			!strings.Contains(a.refused[0], "ask again in 2h") {
			t.Errorf("%d granted, %d refused with %.1q", a.granted, len(a.refused), a.refused)
		}
	}
	s.eventually(func() error {
		if sc := s.scope(); len(sc.Keys) != 7 || sc.Requests.Left != 6 || len(sc.Requests.By) != 1 ||
			sc.Requests.By[0].Name != "NATS" || sc.Requests.By[0].Left != 0 {
			return fmt.Errorf("%d keys, %+v", len(sc.Keys), sc.Requests)
		}
		return nil
	})
	if out := s.mustRun("status"); !strings.Contains(out, "rotations that may be asked for: 6, by you 3") ||
		!strings.Contains(out, "asked for by NATS: 6 keys of the ring; it may ask for one more in ") {
		t.Errorf("status: %s", out)
	}
	s.mustRun("rotate", "--wait")
	s.mustRun("burn", "--yes")
	if sc := s.scope(); len(sc.Keys) != 1 {
		t.Errorf("%d keys after a burn", len(sc.Keys))
	}

	// The rotations of the period go on in a scope that is asked without end.
	one.refused = nil
	one.ask("quick", 200, 0)
	rotated := s.lastOfThePeriod("quick")
	s.eventuallyWithin(40*time.Second, func() error {
		one.ask("quick", 8, 0)
		sc, err := s.scopeOf("quick")
		if err == nil && len(sc.Keys) > keysource.MaxRing-1 {
			t.Errorf("%d keys", len(sc.Keys))
		}
		if now := s.lastOfThePeriod("quick"); err == nil && now < rotated+2 {
			err = fmt.Errorf("the period brought rotation %d last, as before; blocked by %q", now, sc.BlockedBy)
		}
		return err
	})
	if len(one.refused) == 0 {
		t.Error("nothing was refused")
	}
}

// lastOfThePeriod returns the number of the newest rotation that nobody asked for.
func (s *stage) lastOfThePeriod(scope string) (last uint64) {
	s.t.Helper()
	var h struct{ Lines []line }
	s.ok(s.show(&h, "history", scope))
	for _, l := range h.Lines {
		if l.What == "distributing" && l.Why == "the period is over" {
			last = l.Rotation
		}
	}
	return last
}
