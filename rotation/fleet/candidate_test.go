package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// A replica is killed before it heard whether a node took its first ring. The node goes elsewhere
// and says there what it holds: from then on nobody waits for what the dead replica had let in.
func TestANodeThatAnswersElsewhereIsNotWaitedForWhereItDidNot(t *testing.T) {
	for name, took := range map[string]bool{"it holds the ring": true, "it never got the ring": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				r2 := start(t, s, "r2")
				r1 := prepare(t, s, "r1")
				r1.run()
				<-r1.Ready()
				late := &client{stream: streams.Add(1), name: "late"}
				r1.Join("default", Asked{Stream: late.stream, Node: late.name, Held: "", Believed: true})
				time.Sleep(time.Second)
				if ring, _ := r1.Ring(late.stream, "default"); ring == nil {
					t.Fatal("it was not let in")
				}
				r1.kill()
				held := ""
				if took {
					held = r2.status().Version
				}
				r2.connect("late", held)
				time.Sleep(time.Second)
				r1 = start(t, s, "r1")
				r2.rotate()
				r2.phase(6*time.Second, rotation.Steady, 3)
				r1.phase(6*time.Second, rotation.Steady, 3)
				if got := members(r1.status()); got != "late=3" {
					t.Errorf("the roster: %s", got)
				}
			})
		})
	}
}

// Elsewhere, too, only an answer says what a node holds, and only while it stays: a candidate
// whose replica died is waited for beside one of its id that is away or has not answered.
func TestACandidateOfADeadReplicaIsWaitedForWhileNobodyKnowsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		r2 := start(t, s, "r2")
		other := r2.connect("late", "")
		r2.phase(time.Second, rotation.Steady, 1)
		r1 := start(t, s, "r1")
		r1.Join("default", Asked{Stream: streams.Add(1), Node: "late", Held: "", Believed: true})
		time.Sleep(time.Second)
		r1.kill()
		start(t, s, "r1")
		r2.disconnect(other)
		silent := r2.connect("late", "")
		silent.mute.Store(true)
		r2.rotate()
		r2.phase(testPolicy().NodeLease-5*time.Second, rotation.Distributing, 2)
		r2.phase(15*time.Second, rotation.Steady, 3)
	})
}

// A replica is cut off before it has told the others that a node took its first ring. Until it is
// dead nobody knows that the node did not, and it lets it go before that.
func TestACandidateOfAReplicaThatIsNotHeardIsWaitedForUntilThatIsDead(t *testing.T) {
	for name, moves := range map[string]bool{"it comes in time": true, "it does not come": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				cut := s.another()
				r1, r2 := start(t, cut, "r1"), start(t, s, "r2")
				defer cut.set(nil, nil)
				lease(20*time.Second, r1, r2)
				node := r1.connect("n", "")
				time.Sleep(500 * time.Millisecond)
				if node.got() != "[1]" {
					t.Fatalf("it was sent %s", node.got())
				}
				cut.set(down, nil)
				r2.rotate()
				r2.phase(26*time.Second, rotation.Distributing, 2)
				if moves {
					r1.disconnect(node)
					r2.connect("n", r1.status().Version)
					r2.phase(6*time.Second, rotation.Steady, 3)
					if got := members(r2.status()); got != "n=3" {
						t.Errorf("the roster: %s", got)
					}
				} else {
					r2.phase(silentFor+20*time.Second-28*time.Second, rotation.Distributing, 2)
					r2.phase(8*time.Second, rotation.Steady, 3)
				}
			})
		})
	}
}

// A node asked for its first ring while its replica was cut off for longer than the lease. The
// others wait for it like for any other: what it is sent, it is sent now.
func TestTheTimeOfACandidateBeginsWhenItIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		cut := s.another()
		r1, r2 := start(t, cut, "r1"), start(t, s, "r2")
		cut.set(down, nil)
		time.Sleep(retryAfter)
		r1.connect("n", "").mute.Store(true)
		time.Sleep(testPolicy().NodeLease + retryAfter*2/5)
		cut.set(nil, nil)
		r1.Poke("default")
		synctest.Wait()
		r2.rotate()
		r2.phase(testPolicy().NodeLease-time.Second, rotation.Distributing, 2)
		r2.phase(heartbeat+time.Second, rotation.Steady, 3)
	})
}
