package fleet

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// long is an outage that outlasts any lease and ends between the times when replicas try the store
// again.
var long = silentFor + rotation.DefaultPolicy().NodeLease + time.Minute + retryAfter*2/5

// The store was away for longer than any lease. Whoever can use it again first has not heard of
// the others, who are about to: it waits for each of their nodes.
func TestAfterAnOutageTheOtherReplicasAreNotTakenForDead(t *testing.T) {
	for name, restarted := range map[string]bool{"it ran all the time": false, "it was started anew": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, r1, r2 := pair(t)
				a, b := r1.connect("a", ""), r2.connect("b", "")
				time.Sleep(time.Second)
				version := r1.status().Version
				if restarted {
					r1.disconnect(a)
					r1.stop()
				}
				s.set(down, nil)
				time.Sleep(long)
				s.set(nil, nil)
				if restarted {
					r1 = start(t, s, "r1")
					r1.connect("a", version)
				}
				r1.rotate()
				r1.phase(0, rotation.Distributing, 2)
				r1.phase(6*time.Second, rotation.Steady, 3)
				r2.phase(6*time.Second, rotation.Steady, 3)
				if b.got() != "[1 2 3]" {
					t.Errorf("it was sent %s", b.got())
				}
			})
		})
	}
}

// A node moved while the store was away for longer than its lease. Only the replica that it came
// to knows of that, and is not the first to use the store again.
func TestANodeThatMovedDuringAnOutageIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r1, r2 := pair(t)
		node := r1.connect("n", "")
		time.Sleep(time.Second)
		s.set(down, nil)
		time.Sleep(time.Second)
		r1.disconnect(node)
		node = r2.connect("n", r1.status().Version)
		time.Sleep(long)
		s.set(nil, nil)
		r1.rotate()
		r1.phase(0, rotation.Distributing, 2)
		r1.phase(6*time.Second, rotation.Steady, 3)
		r2.phase(6*time.Second, rotation.Steady, 3)
		if node.got() != "[2 3]" {
			t.Errorf("it was sent %s", node.got())
		}
	})
}

// The same by a short lease and an outage that is no longer.
func TestANodeThatMovedDuringAShortOutageIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r1, r2 := pair(t)
		lease(5*time.Second, r1, r2)
		node := r1.connect("n", "")
		time.Sleep(5 * time.Second)
		s.set(down, nil)
		time.Sleep(time.Second)
		r1.disconnect(node)
		r2.connect("n", r1.status().Version)
		time.Sleep(6*time.Second + retryAfter*2/5)
		s.set(nil, nil)
		r1.rotate()
		r1.phase(0, rotation.Distributing, 2)
		r1.phase(6*time.Second, rotation.Steady, 3)
	})
}

// A store that is read and takes no writes is an outage, too: the others cannot be heard, however
// often somebody reads.
func TestAfterAStoreTookNoWritesNobodyIsTakenForDead(t *testing.T) {
	for _, every := range []time.Duration{time.Hour, 10 * time.Second} {
		t.Run(fmt.Sprint(every), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, r1, r2 := pair(t)
				r1.connect("a", "")
				r2.connect("b", "")
				time.Sleep(time.Second)
				s.set(func(_ context.Context, op, _ string) error {
					if op == "swap" {
						return errDown
					}
					return nil
				}, nil)
				end := time.Now().Add(long)
				for time.Until(end) > every {
					time.Sleep(every)
					if _, err := r1.Rotate(t.Context(), "default", rotation.Request{By: "cron"}); err == nil {
						t.Fatal("it was written")
					}
				}
				time.Sleep(time.Until(end))
				s.set(nil, nil)
				r1.rotate()
				r1.phase(0, rotation.Distributing, 2)
			})
		})
	}
}

// A replica that is back for a moment, and the other is not, asks that one whether it is better
// off when it is cut off again.
func TestWhoMayBeAliveAfterAnOutageIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newFaulty()
		two := one.another()
		r1 := start(t, one, "r1")
		start(t, two, "r2")
		defer one.set(nil, nil)
		time.Sleep(12 * time.Second)
		one.set(down, nil)
		two.set(down, nil)
		time.Sleep(silentFor + heartbeat + retryAfter*2/5)
		one.set(nil, nil)
		time.Sleep(retryAfter)
		one.set(down, nil)
		two.set(nil, nil)
		time.Sleep(silentFor)
		if ps := r1.notDead(); len(ps) != 1 || ps[0].Replica != "r2" || len(r1.Peers()) != 0 {
			t.Errorf("others %v, peers %v", ps, r1.Peers())
		}
	})
}

// A replica that is started again and again keeps no node alive that is gone.
func TestRestartsEndTheLeasesOfNodesThatAreGone(t *testing.T) {
	for name, down := range map[string]time.Duration{"at once": 0, "after a while": 40 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, r1, r2 := pair(t)
				gone := r1.connect("gone", "")
				time.Sleep(time.Second)
				r1.disconnect(gone)
				r2.rotate()
				for range 10 {
					time.Sleep(45 * time.Second)
					r1.kill()
					time.Sleep(down)
					r1 = start(t, s, "r1")
				}
				r2.phase(0, rotation.Steady, 3)
			})
		})
	}
}

// stepped is a store whose clock can be set.
type stepped struct {
	store.Store
	by atomic.Int64
}

func (s *stepped) Now(ctx context.Context) (time.Time, error) {
	t, err := s.Store.Now(ctx)
	return t.Add(time.Duration(s.by.Load())), err
}

func TestAClockThatGoesWrongForAWhileKeepsNobodyAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		clock := &stepped{Store: s.Store}
		s.Store = clock
		r1, r2 := start(t, s, "r1"), start(t, s, "r2")
		gone := r1.connect("gone", "")
		r2.connect("gone with its replica", "")
		time.Sleep(6 * time.Second)
		r1.disconnect(gone)
		time.Sleep(time.Second)
		clock.by.Store(int64(time.Hour))
		time.Sleep(12 * time.Second)
		clock.by.Store(0)
		time.Sleep(12 * time.Second)
		r2.kill()
		r1.rotate()
		r1.phase(silentFor+2*testPolicy().NodeLease, rotation.Steady, 3)
	})
}

// Another replica's candidate has no moment at which its time is over: nobody looks at the store
// again and again for it.
func TestTheCandidateOfAnotherReplicaIsNotLookedForAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r1, r2 := pair(t)
		lease(70*time.Second+2*time.Millisecond, r1, r2) // a hair more than seven heartbeats
		r2.connect("n", "").mute.Store(true)
		for range 12 {
			before := s.count("now")
			time.Sleep(10 * time.Second)
			if n := s.count("now") - before; n > 20 {
				t.Errorf("%d looks in 10 s", n)
			}
		}
	})
}
