package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

func TestARotationThroughTheCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		a, b := p.connect("a", ""), p.connect("b", "")
		// the two may have come in two looks, with a pause after each
		p.phase(3*gather, rotation.Steady, 1)
		if n := p.rotate(); n != 1 {
			t.Errorf("rotation %d", n)
		}
		p.phase(0, rotation.Steady, 3) // nobody is slow: no time passes
		if a.got() != "[1 2 3]" || b.got() != "[1 2 3]" {
			t.Errorf("a was sent %s, b %s", a.got(), b.got())
		}
		if p.announced() != "done distributing promoting done" {
			t.Errorf("announced %q", p.announced())
		}
		p.phase(time.Hour+time.Minute, rotation.Steady, 4)
		if p.announced() != "done distributing promoting done retired" {
			t.Errorf("announced %q", p.announced())
		}
	})
}

// What makes a joining node safe is an order: its name stands in the store, then the ring is read,
// then it is sent.
func TestAJoinerIsWrittenDownBeforeTheRingIsReadThatItGets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1")
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && strings.HasPrefix(key, "roster/") {
				return errDown
			}
			return nil
		}, nil)
		from := len(s.ops)
		c := p.connect("a", "")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if ring, barred := p.Ring(c.stream, "default"); ring != nil || barred || c.got() != "[]" {
			t.Fatalf("it was sent %s although its roster cannot be stored", c.got())
		}
		var seen []string
		p.mu.Lock()
		p.woken = func([]uint64) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if seen == nil {
				seen = append(seen, s.ops[from:]...)
			}
		}
		p.mu.Unlock()
		s.set(nil, nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if c.got() != "[1]" {
			t.Fatalf("sent %s", c.got())
		}
		tail := strings.Join(seen[len(seen)-5:], ", ")
		if want := "get roster/default/r1, swap roster/default/r1, now , get ring/default, " +
			"get lifetime/default"; tail != want {
			t.Errorf("before it was sent: %s, want %s", tail, want)
		}
	})
}

// A replica that admits a node between another one's look at the rosters and its swap must not
// have it hold a ring that lacks the key which encrypts next; see Next.
func TestARotationOfAnEmptyFleetSeesWhoJoinsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, one, two := pair(t)
		var slow *client
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && key == "ring/default" && slow == nil {
				slow = &client{stream: streams.Add(1)}
				one.Join("default", Asked{Stream: slow.stream, Node: "slow", Held: "", Believed: true})
				// the other replica lets it in, with the ring that is about to be replaced
				time.Sleep(time.Second)
				if ring, _ := one.Ring(slow.stream, "default"); ring == nil || ring.Generation != 1 {
					t.Error("it was not let in with g1")
				}
			}
			return nil
		}, nil)
		two.rotate()
		synctest.Wait()
		two.phase(testPolicy().NodeLease-2*time.Second, rotation.Distributing, 2)
		one.Accepted(slow.stream, "default", one.status().Version)
		two.phase(6*time.Second, rotation.Promoting, 3)
	})
}

func TestTwoReplicasOfOneFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := pair(t)
		a := one.connect("a", "")
		b := two.connect("b", "")
		time.Sleep(10 * time.Second)
		one.rotate() // nobody pokes the other: it sees each ring within a refresh
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !strings.HasPrefix(b.got(), "[1 2") {
			t.Errorf("a refresh later b was sent %s", b.got())
		}
		for _, p := range []*plane{one, two} {
			p.phase(15*time.Second, rotation.Steady, 3)
			if got := members(p.status()); got != "a=3 b=3" {
				t.Errorf("%s sees %q", p.replica, got)
			}
		}
		if a.got() != "[1 2 3]" || b.got() != "[1 2 3]" {
			t.Errorf("a was sent %s, b %s", a.got(), b.got())
		}
		if lines := one.announced() + " " + two.announced(); strings.Count(lines, "distributing") != 1 ||
			strings.Count(lines, "promoting") != 1 {
			t.Errorf("announced %q and %q", one.announced(), two.announced())
		}

		moved := two.connect("a", two.status().Version) // the old stream ends later
		time.Sleep(time.Second)
		one.disconnect(a)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		for _, p := range []*plane{one, two} {
			if got := members(p.status()); got != "a=3 b=3" {
				t.Errorf("after the move %s sees %q", p.replica, got)
			}
		}
		two.disconnect(moved)
		two.phase(0, rotation.Steady, 3)
	})
}

func TestWithEventsReplicasWaitForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := pair(t)
		one.tells, two.tells = two, one
		one.connect("a", "")
		two.connect("b", "")
		time.Sleep(time.Second)
		for g := uint64(3); g < 9; g += 2 {
			one.rotate()
			one.phase(100*time.Millisecond, rotation.Steady, g)
			two.phase(0, rotation.Steady, g)
		}
	})
}

func TestReplicasThatDecideAtOnceDoItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, one, two := pair(t)
		both := make(chan struct{})
		s.set(func(_ context.Context, op, key string) error { // both have read before either swaps
			if op == "swap" && key == "ring/default" {
				select {
				case both <- struct{}{}:
				case <-both:
				case <-time.After(time.Second):
				}
			}
			return nil
		}, nil)
		numbers := make(chan uint64, 2)
		for _, p := range []*plane{one, two} {
			p.connect("of-"+p.replica, "")
			time.Sleep(time.Second)
			go func() {
				n, err := p.Rotate(t.Context(), "default", rotation.Request{By: p.replica})
				if err != nil {
					t.Error(err)
				}
				numbers <- n
			}()
		}
		if x, y := <-numbers, <-numbers; x != 1 || y != 1 {
			t.Errorf("rotations %d and %d", x, y)
		}
		s.set(nil, nil)
		one.phase(30*time.Second, rotation.Steady, 3)
	})
}

func TestADeadReplicasNodesAreAwayThenForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s1 := newFaulty()
		one, two := start(t, s1, "r1"), start(t, s1.another(), "r2")
		one.connect("a", "")
		two.connect("b", "")
		time.Sleep(time.Second)
		synctest.Wait()
		two.kill()
		one.rotate()
		one.phase(silentFor-time.Second, rotation.Distributing, 2)
		if got := members(one.status()); got != "a=2 b=1" {
			t.Errorf("sees %q", got)
		}
		one.phase(8*time.Second, rotation.Distributing, 2)
		if got := members(one.status()); got != "a=2 b=1~" {
			t.Errorf("sees %q", got)
		}
		// a lease after it was taken for dead: it may have been cut off only
		one.phase(testPolicy().NodeLease-15*time.Second, rotation.Distributing, 2)
		one.phase(15*time.Second, rotation.Steady, 3)
		one.phase(5*time.Second, rotation.Steady, 3)
		if _, _, err := s1.Store.Get(t.Context(), "roster/default/r2"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("the dead replica's roster is kept: %v", err)
		}
	})
}

func TestAReplicaIsHeardOfWhileNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, one, two := pair(t)
		one.connect("a", "")
		two.connect("b", "")
		time.Sleep(5 * time.Second)
		before := s.count("swap roster/")
		for range 60 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got := members(one.status()); got != "a=1 b=1" {
				t.Fatalf("sees %q", got)
			}
		}
		if n := s.count("swap roster/") - before; n > 2*31 {
			t.Errorf("%d roster writes in five quiet minutes of two replicas", n)
		}
	})
}

// A replica that is alone on its store serves what is published to nodes that come while it cannot
// write.
func TestAloneItServesNewNodesWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1", alone)
		p.connect("a", "")
		p.phase(time.Second, rotation.Steady, 1)
		s.set(down, nil)
		b := p.connect("b", "")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if b.got() != "[1]" {
			t.Fatalf("b was sent %s", b.got())
		}
		s.set(nil, nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		b.mute.Store(true)
		p.rotate()
		p.phase(time.Second, rotation.Distributing, 2) // b is known, and waited for
		if got := members(p.status()); !strings.Contains(got, "a") || !strings.Contains(got, "b") {
			t.Errorf("sees %q", got)
		}
	})
}

func TestTheStoreIsDownForAWhile(t *testing.T) {
	for name, fail := range map[string]func(context.Context, string, string) error{
		"it fails": down,
		"it hangs": func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				p := start(t, s, "r1")
				a := p.connect("a", "")
				p.phase(time.Second, rotation.Steady, 1)
				s.set(fail, nil)
				time.Sleep(lookWithin + 2*retryAfter + 5*time.Second)
				synctest.Wait()
				if st := p.status(); st.Err == nil {
					t.Error("the fault is not shown")
				}
				if ring, _ := p.Ring(a.stream, "default"); ring == nil || ring.Generation != 1 {
					t.Error("what was published is not served any more")
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				if _, err := p.Rotate(ctx, "default", rotation.Request{}); err == nil ||
					time.Since(began) > time.Second {
					t.Errorf("a command: %v after %s", err, time.Since(began))
				}
				b := p.connect("b", "")
				time.Sleep(time.Minute)
				synctest.Wait()
				if b.got() != "[]" {
					t.Error("a node joined without a store")
				}
				s.set(nil, nil)
				p.phase(lookWithin+2*retryAfter, rotation.Steady, 1)
				if st := p.status(); st.Err != nil || b.got() != "[1]" {
					t.Errorf("err %v; b was sent %s", st.Err, b.got())
				}
				p.rotate()
				p.phase(0, rotation.Steady, 3)
			})
		})
	}
}

func TestASwapOfUnknownOutcome(t *testing.T) {
	for name, done := range map[string]bool{"done": true, "not done": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				p := start(t, s, "r1")
				a := p.connect("a", "")
				p.phase(time.Second, rotation.Steady, 1)
				once := func(op, key string) error {
					if op == "swap" && key == "ring/default" {
						s.before, s.after = nil, nil
						return errDown
					}
					return nil
				}
				if done {
					s.set(nil, once)
				} else {
					s.set(func(_ context.Context, op, key string) error { return once(op, key) }, nil)
				}
				if _, err := p.Rotate(t.Context(), "default", rotation.Request{}); !errors.Is(err, errDown) {
					t.Fatal(err)
				}
				p.phase(2*retryAfter, rotation.Steady, map[bool]uint64{true: 3, false: 1}[done])
				want := "done"
				if done {
					// each told once, though the first was in doubt
					want += " distributing promoting done"
				}
				if p.announced() != want {
					t.Errorf("announced %q, want %q", p.announced(), want)
				}
				_ = a
			})
		})
	}
}

func TestARestartRemembersWhatNodesHold(t *testing.T) {
	for name, end := range map[string]func(*plane){"stopped": (*plane).stop, "killed": (*plane).kill} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				p := start(t, s, "r1")
				p.connect("a", "")
				p.connect("b", "")
				time.Sleep(6 * time.Second)
				synctest.Wait()
				end(p)

				p = prepare(t, s, "r1")
				p.rotate() // before anything was read: it must not take the fleet for an empty one
				p.run()
				<-p.Ready()
				p.phase(0, rotation.Distributing, 2)
				if got := members(p.status()); got != "a=1~ b=1~" {
					t.Errorf("remembers %q", got)
				}
				a := p.connect("a", ringOf(1)) // a ring of that number which it cannot know
				p.phase(time.Minute, rotation.Distributing, 2)
				if got := members(p.status()); got != "a=2 b=1~" || a.got() != "[2]" {
					t.Errorf("sees %q, a was sent %s", got, a.got())
				}
				p.connect("b", "")
				p.phase(gather, rotation.Steady, 3)
			})
		})
	}
}

func TestAFirstRefusalIsNoMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		p.connect("a", "")
		p.phase(time.Second, rotation.Steady, 1)
		sni := &client{stream: streams.Add(1)}
		p.Join("default", Asked{Stream: sni.stream, Node: "a", Held: "", Believed: true})
		time.Sleep(time.Second)
		synctest.Wait()
		p.rotate()
		p.phase(time.Second, rotation.Distributing, 2) // its first answer may still come
		p.Refused(sni.stream, "default", p.status().Version, "Failed to load certificate chain")
		if ring, barred := p.Ring(sni.stream, "default"); ring != nil || !barred {
			t.Error("the stream is not told that there is none")
		}
		p.phase(0, rotation.Steady, 3)
		if got := members(p.status()); got != "a=3" || p.status().Refusers != nil {
			t.Errorf("sees %q, refusers %v", got, p.status().Refusers)
		}
		p.Closed(sni.stream)
		if _, barred := p.Ring(sni.stream, "default"); barred {
			t.Error("the bar outlives its stream")
		}
	})
}

func TestARefusingMemberThroughTheCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		a, b := p.connect("a", ""), p.connect("b", "")
		p.phase(time.Second, rotation.Steady, 1)
		b.refuses.Store(true)
		p.rotate()
		// the new key came and went
		p.phase(0, rotation.Steady, 3)
		// a may have been too busy to notice
		if got := p.announced(); got != "done distributing taken-back" || a.got() != "[1 2 3]" && a.got() != "[1 3]" {
			t.Errorf("announced %q, a was sent %s", got, a.got())
		}
		b.refuses.Store(false)
		p.phase(2*time.Second, rotation.Steady, 5)
		if b.got() != "[1 4 5]" {
			t.Errorf("b was sent %s", b.got())
		}
	})
}

func TestAStoreThatWentBackGetsTheNewerRingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1")
		a := p.connect("a", "")
		p.phase(time.Second, rotation.Steady, 1)
		old, _ := s.rollout(t)
		p.rotate()
		p.phase(time.Second, rotation.Steady, 3)
		held := p.status().Version
		s.overwrite(t, old)
		p.phase(6*time.Second, rotation.Steady, 3)
		now, _ := s.rollout(t)
		if now.Ring().Version() != held || a.got() != "[1 2 3]" {
			t.Errorf("the store holds %s, a was sent %s", now.Ring(), a.got())
		}
		if got := p.announced(); got != "done distributing promoting done written-back" {
			t.Errorf("announced %q", got)
		}
	})
}

func TestAStoreThatWentAnotherWayBeginsAboveBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1")
		a := p.connect("a", "")
		p.phase(time.Second, rotation.Steady, 1)
		old, _ := s.rollout(t)
		p.rotate()
		p.phase(time.Second, rotation.Steady, 3)
		for old.Generation < 3 { // what another replica did with the store that had lost it
			old, _ = old.Next(testPolicy(), rotation.Tally{}, time.Now().Add(21*time.Hour), keysource.NewTicketKey)
		}
		s.overwrite(t, old)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		now, _ := s.rollout(t)
		if now.Generation != 5 || a.got() != "[1 2 3 5]" || members(p.status()) != "a=5" {
			t.Errorf("the store holds g%d, a was sent %s, sees %q", now.Generation, a.got(), members(p.status()))
		}
	})
}

func TestANodeIsTheWitnessOfLostWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		a := p.connect("a", ringOf(40))
		p.phase(time.Second, rotation.Steady, 41)
		if a.got() != "[41]" || members(p.status()) != "a=41" {
			t.Errorf("sent %s, sees %q", a.got(), members(p.status()))
		}
		p.connect("liar", fmt.Sprintf("g%d-000000000000", uint64(1)<<63))
		p.phase(time.Second, rotation.Steady, 41)
	})
}

func TestClosedIsAwayDroppedIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		a, b := p.connect("a", ""), p.connect("b", "")
		p.phase(time.Second, rotation.Steady, 1)
		p.Dropped(b.stream, "default")
		p.disconnect(a)
		if got := members(p.status()); got != "a=1~" {
			t.Errorf("sees %q", got)
		}
		if ring, barred := p.Ring(b.stream, "default"); ring != nil || barred {
			t.Error("a stream that no longer wants the ring may be sent it")
		}
		p.rotate()
		p.phase(testPolicy().NodeLease-time.Second, rotation.Distributing, 2)
		p.phase(2*time.Second, rotation.Steady, 3)
	})
}

func TestAFleetThatComesAtOnceCostsAHandfulOfWrites(t *testing.T) {
	for name, pause := range map[string]time.Duration{"in one moment": 0, "within a second": 200 * time.Microsecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 5000
				if raced {
					n = 1000
				}
				s := newFaulty()
				p := start(t, s, "r1")
				before := s.count("swap")
				all := make([]*client, n)
				for i := range all {
					all[i] = p.connect(fmt.Sprintf("n%d", i), "")
					time.Sleep(pause)
				}
				p.phase(2*gather, rotation.Steady, 1)
				for _, c := range all {
					if c.got() != "[1]" {
						t.Fatalf("%s was sent %s", c.name, c.got())
					}
				}
				writes := s.count("swap") - before
				if writes > 4+int(time.Duration(n)*pause/gather) {
					t.Errorf("%d writes", writes)
				}
				t.Logf("%d writes", writes)
				p.phase(10*time.Second, rotation.Steady, 1)
				before = s.count("swap")
				p.rotate()
				p.phase(0, rotation.Steady, 3)
				if writes := s.count("swap") - before; writes > 8 {
					t.Errorf("a rotation cost %d writes", writes)
				}
			})
		})
	}
}

func TestCommandsThroughTheCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		ctx := t.Context()
		for _, err := range []error{
			func() error { _, err := p.Rotate(ctx, "other", rotation.Request{}); return err }(),
			func() error { _, err := p.Burn(ctx, "other", "", ""); return err }(),
			func() error { _, err := p.Rollback(ctx, "other", "", ""); return err }(),
			p.Exclude(ctx, "other", "a", "", "", time.Hour),
			func() error { _, err := p.Status("other"); return err }(),
		} {
			if !errors.Is(err, keysource.ErrNotExist) ||
				!strings.Contains(err.Error(), `scope "other" does not exist: the configuration has [default]`) {
				t.Error(err)
			}
		}
		// all of these do nothing
		p.Join("other", Asked{Stream: 99, Node: "a", Held: "", Believed: true})
		p.Accepted(99, "other", "g1-000000000000")
		p.Refused(99, "other", "g1-000000000000", "")
		p.Dropped(99, "other")
		p.Closed(99)
		p.Poke("other")
		if ring, barred := p.Ring(99, "other"); ring != nil || barred {
			t.Error("a scope that is not configured is answered")
		}

		a, b := p.connect("a", ""), p.connect("b", "")
		p.phase(time.Second, rotation.Steady, 1)
		if _, err := p.Rollback(ctx, "default", "me", ""); !errors.Is(err, rotation.ErrRefused) {
			t.Error(err)
		}
		p.disconnect(b)
		if err := p.Exclude(ctx, "default", "b", "me", "gone", time.Hour); err != nil {
			t.Fatal(err)
		}
		p.rotate()
		p.phase(0, rotation.Steady, 3)
		if n, err := p.Rollback(ctx, "default", "me", ""); n != 2 || err != nil {
			t.Errorf("rotation %d, %v", n, err)
		}
		p.phase(0, rotation.Steady, 6)
		if n, err := p.Burn(ctx, "default", "me", "leaked"); n != 3 || err != nil {
			t.Errorf("burn %d, %v", n, err)
		}
		p.phase(0, rotation.Burning, 7)
		p.phase(testPolicy().NodeLease+10*time.Second+time.Second, rotation.Steady, 7)
		if a.got() != "[1 2 3 5 6 7]" {
			t.Errorf("a was sent %s", a.got())
		}
		if err := p.Exclude(ctx, "default", "b", "me", "", 0); err != nil {
			t.Error(err)
		}
		if err := p.Exclude(ctx, "default", "b", "me", "", 0); !errors.Is(err, keysource.ErrNotExist) {
			t.Errorf("an exclusion that there is not: %v", err)
		}
		k := testKey(90)
		n, err := p.Rotate(ctx, "default", rotation.Request{By: "me", Key: &k})
		if err != nil || n != 4 {
			t.Errorf("rotation %d, %v", n, err)
		}
		p.phase(0, rotation.Steady, 9)
		if p.Current("default").Keys[0] != k {
			t.Error("the requested key does not encrypt")
		}
	})
}

func TestANodeThatNobodyKnowsIsNotExcluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1")
		ctx := t.Context()
		refused := func(node, words string) {
			t.Helper()
			err := p.Exclude(ctx, "default", node, "me", "", time.Hour)
			if !errors.Is(err, keysource.ErrNotExist) || !strings.Contains(err.Error(), words) {
				t.Errorf("%q: %v, want %q", node, err, words)
			}
			if st, err := p.Status("default"); err != nil || len(st.Excluded) > 0 {
				t.Errorf("%q: excluded is %v, %v", node, st.Excluded, err)
			}
		}
		refused("edge-1", "it has no nodes now")
		p.connect("edge-1", "")
		p.connect("edge-1", "")
		gone := p.connect("edge-12", "")
		p.phase(time.Second, rotation.Steady, 1)
		refused("edge-2", "the nearest of its 2 nodes is edge-1, edge-12")
		refused("EDGE-12", "nodes is edge-12")
		refused("e", "is edge-1, edge-12")
		refused("something-else", "none of its 2 nodes is named alike")
		refused("edge-1#2", `a further stream of the node "edge-1"`)

		p.disconnect(gone)
		if err := p.Exclude(ctx, "default", "edge-12", "me", "", 5*time.Hour); err != nil {
			t.Errorf("one that is away: %v", err)
		}
		time.Sleep(testPolicy().NodeLease + time.Minute)
		if err := p.Exclude(ctx, "default", "edge-12", "me", "for longer", 9*time.Hour); err != nil {
			t.Errorf("one that is excluded and has left: %v", err)
		}
		if err := p.Exclude(ctx, "default", "edge-12", "me", "", 0); err != nil {
			t.Errorf("taking that back: %v", err)
		}
		refused("edge-12", "is edge-1")
	})
}
