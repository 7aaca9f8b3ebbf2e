package rotation

import (
	"testing"
	"testing/synctest"
	"time"
)

// A replica is killed before it heard whether a node took its first ring. The node goes elsewhere and says there what it holds: from then on nobody waits for
// what the dead replica had let in.
func TestANodeThatAnswersElsewhereIsNotWaitedForWhereItDidNot(t *testing.T) {
	for name, took := range map[string]bool{"it holds the ring": true, "it never got the ring": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				r2 := start(t, s, "r2")
				defer r2.stop()
				r1 := prepare(t, s, "r1")
				r1.run()
				<-r1.Ready()
				late := &client{stream: streams.Add(1), name: "late"}
				r1.Join(late.stream, late.name, "default", "")
				time.Sleep(time.Second)
				if ring, _ := r1.Ring(late.stream, "default"); ring == nil {
					t.Fatal("it was not let in")
				}
				r1.kill()
				held := ""
				if took {
					held = r2.status().Rollout.Ring().Version()
				}
				r2.connect("late", held)
				time.Sleep(time.Second)
				r1 = start(t, s, "r1")
				defer r1.stop()
				r2.rotate()
				r2.phase(6*time.Second, Steady, 3)
				r1.phase(6*time.Second, Steady, 3)
				if got := members(r1.status()); got != "late=3" {
					t.Errorf("the roster: %s", got)
				}
			})
		})
	}
}

// Elsewhere, too, only an answer says what a node holds, and only while it stays: a candidate whose replica died is waited for beside one of its id that is
// away or has not answered.
func TestACandidateOfADeadReplicaIsWaitedForWhileNobodyKnowsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		r2 := start(t, s, "r2")
		defer r2.stop()
		other := r2.connect("late", "")
		r2.phase(time.Second, Steady, 1)
		r1 := start(t, s, "r1")
		r1.Join(streams.Add(1), "late", "default", "")
		time.Sleep(time.Second)
		r1.kill()
		r1 = start(t, s, "r1")
		defer r1.stop()
		r2.disconnect(other)
		silent := r2.connect("late", "")
		silent.mute.Store(true)
		r2.rotate()
		r2.phase(testPolicy().NodeLease-5*time.Second, Distributing, 2)
		r2.phase(15*time.Second, Steady, 3)
	})
}
