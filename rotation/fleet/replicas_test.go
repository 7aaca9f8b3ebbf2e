package fleet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// empty deletes everything, as a FLUSHALL does.
func (s *faulty) empty(t *testing.T) {
	t.Helper()
	for key, err := range s.Store.Keys(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		_, rev, err := s.Store.Get(t.Context(), key)
		if err == nil {
			_, err = s.Store.Swap(t.Context(), key, rev, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnEmptiedStoreIsFilledAgainAndNothingMovesUntilAllAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r1, r2 := pair(t)
		a, b := r1.connect("a", ""), r2.connect("b", "")
		time.Sleep(time.Second)
		r1.rotate()
		r1.phase(time.Minute, rotation.Steady, 3)
		r2.phase(0, rotation.Steady, 3)
		before := r1.Current("default")
		s.empty(t)
		r1.phase(6*time.Second, rotation.Steady, 3)
		r2.phase(0, rotation.Steady, 3)
		if stored, _ := s.rollout(t); stored.Ring().Version() != before.Version() || stored.Hold.IsZero() {
			t.Fatalf("the store holds %s, had %s; hold until %s",
				stored.Ring().Version(), before.Version(), stored.Hold)
		}
		r1.rotate() // is accepted, and waits
		r1.phase(time.Minute, rotation.Steady, 3)
		if st := r1.status(); !strings.Contains(strings.Join(st.BlockedBy, "\n"), "lost its content") {
			t.Errorf("blocked by %q", st.BlockedBy)
		}
		r1.phase(silentFor+rotation.DefaultPolicy().NodeLease-time.Minute+10*time.Second, rotation.Steady, 5)
		r2.phase(5*time.Second, rotation.Steady, 5)
		if a.got() != b.got() || !strings.HasPrefix(a.got(), "[1 2 3 4 5") {
			t.Errorf("a was sent %s, b %s", a.got(), b.got())
		}
	})
}

// sentMost is a HighestSent in memory.
type sentMost struct {
	mu sync.Mutex
	m  map[string]uint64
}

func (m *sentMost) Highest(scope string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m[scope]
}

func (m *sentMost) Raise(scope string, generation uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[string]uint64{}
	}
	m.m[scope] = max(m.m[scope], generation)
}

func TestAnOlderRingThatWasPutBackIsNeverServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, memory := newFaulty(), &sentMost{}
		p := start(t, s, "r1", remembers(memory))
		yesterday, _ := s.rollout(t)
		p.rotate()
		p.phase(time.Second, rotation.Steady, 3)
		p.stop()
		s.overwrite(t, yesterday)

		p = start(t, s, "r1", remembers(memory))
		n := p.connect("a", "")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := p.status(); !errors.Is(st.Err, errPutBack) || n.got() != "[]" {
			t.Fatalf("a node was sent %s; the scope says %v", n.got(), st.Err)
		}
		p.phase(writeBackWithin, rotation.Steady, 4)
		if now, _ := s.rollout(t); p.Current("default").Keys[0] == yesterday.Keys[0].Key ||
			!isBurnt(now, yesterday.Keys[0].Key) {
			t.Error("the key that was put back is in use")
		}
		if n.got() != "[4]" {
			t.Errorf("the node was sent %s", n.got())
		}
	})
}

func TestARingThatWasPutBackIsReplacedByThatOfAReplicaThatLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, memory := newFaulty(), &sentMost{}
		r2 := start(t, s, "r2")
		yesterday, _ := s.rollout(t)
		r1 := start(t, s, "r1", remembers(memory))
		r1.rotate()
		r1.phase(6*time.Second, rotation.Steady, 3)
		r2.phase(0, rotation.Steady, 3)
		today := r2.status().Version
		r1.stop()
		s.overwrite(t, yesterday)
		r1 = start(t, s, "r1", remembers(memory))
		r1.phase(7*time.Second, rotation.Steady, 3)
		if got := r1.status().Version; got != today {
			t.Errorf("r1 serves %s, r2 had %s", got, today)
		}
	})
}

func TestAReplicaWhoseClockIsOffLeavesRolloutsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		r1 := start(t, s, "r1")
		r2 := start(t, s, "r2", clockOff(time.Hour))
		b := r2.connect("b", "")
		time.Sleep(6 * time.Second)
		if got, off := r2.Skew(); got != -time.Hour || !off {
			t.Errorf("the skew is %s", got)
		}
		_, err := r2.Rotate(t.Context(), "default", rotation.Request{By: "me"})
		if !errors.Is(err, rotation.ErrRefused) || !strings.Contains(err.Error(), "1h0m0s off") {
			t.Errorf("a rotation there: %v", err)
		}
		r1.rotate()
		r1.phase(20*time.Second, rotation.Steady, 3)
		r2.phase(6*time.Second, rotation.Steady, 3)
		if b.got() != "[1 2 3]" {
			t.Errorf("its node was sent %s", b.got())
		}
		if lines := r2.announced(); lines != "" {
			t.Errorf("it did %s", lines)
		}
	})
}

// TestReplicasHearOfEachOther, however seldom they look at the store, and know since when they are
// not heard.
func TestReplicasHearOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		seldom := func(c *Config) { c.Refresh = time.Hour }
		r1, r2 := start(t, s, "r1", seldom), start(t, s, "r2", seldom)
		for range 10 {
			time.Sleep(7 * time.Second)
			for _, p := range []*plane{r1, r2} {
				if d := p.unheard(); d > heartbeat {
					t.Errorf("%s has not been heard for %s", p.replica, d)
				}
			}
		}
		if ps := r1.Peers(); len(ps) != 1 || ps[0].Replica != "r2" {
			t.Errorf("r1 knows %+v", ps)
		}
		s.set(func(_ context.Context, _, key string) error {
			if key == "roster/default/r1" {
				return errors.New("not written")
			}
			return nil
		}, nil)
		time.Sleep(silentFor)
		if one, two := r1.unheard(), r2.unheard(); one < silentFor || one > silentFor+heartbeat || two > heartbeat {
			t.Errorf("after %s r1 has not been heard for %s, r2 for %s", silentFor, one, two)
		}
		s.set(nil, nil)
		time.Sleep(retryAfter + time.Second)
		if d := r1.unheard(); d > heartbeat {
			t.Errorf("r1 has not been heard for %s", d)
		}
	})
}

func TestReplicasWithEventsOfTheirOwnDoNotWorkTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		begin := func(replica string, alone bool) *plane {
			p := prepare(t, s, replica, calls(replica, alone))
			p.run()
			return p
		}
		r1 := begin("r1", true)
		time.Sleep(time.Second)
		for _, alone := range []bool{true, false} {
			r2 := begin("r2", alone)
			if err := r2.end(); !errors.Is(err, errAlone) || !strings.Contains(err.Error(), "http://r1") {
				t.Errorf("the second one (alone: %v) ended with %v", alone, err)
			}
		}
		time.Sleep(time.Minute)
		select {
		case err := <-r1.done:
			t.Errorf("the first one ended: %v", err)
		default:
		}
		r1.stop()
		r3 := begin("r3", false) // the first has ended and is forgotten after a while
		time.Sleep(time.Second)
		if err := r3.end(); !errors.Is(err, errAlone) {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(silentFor)
		r3 = begin("r3", false)
		time.Sleep(time.Second)
		begin("r4", false)
		time.Sleep(15 * time.Second)
		if ps := r3.Peers(); len(ps) != 1 || ps[0].Replica != "r4" || ps[0].Admin != "http://r4" {
			t.Errorf("r3 knows %+v", ps)
		}
	})
}

// Two nodes under one id, each on a replica of its own: the one that is slow is waited for.
func TestTwoNodesUnderOneIdOnTwoReplicasAreBothWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r1, r2 := pair(t)
		slow := r1.connect("a", "")
		r1.phase(time.Second, rotation.Steady, 1)
		r2.connect("a", r1.status().Version)
		time.Sleep(2 * heartbeat)
		slow.mute.Store(true)
		r2.rotate()
		r2.phase(30*time.Second, rotation.Distributing, 2)
		if ms := r2.status().Members; len(ms) != 2 || ms[1].Name() != "a#2" {
			t.Errorf("the members: %+v", ms)
		}
		r1.accept(slow)
		r2.phase(6*time.Second, rotation.Promoting, 3)
	})
}

// A replica that is refused has decided nothing, and leaves the rosters of all its scopes as it
// found them: those that work go on by what they say.
func TestARefusedReplicaLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		begin := func(replica string, alone bool) *plane {
			p := prepare(t, s, replica, calls(replica, alone), func(c *Config) {
				c.Scopes["other"], c.Scopes["third"] = testPolicy(), testPolicy()
			})
			p.run()
			return p
		}
		r2 := begin("r2", false) // it worked here before, and has a node
		time.Sleep(time.Second)
		r2.connect("b", "")
		time.Sleep(2 * time.Second)
		r2.stop()
		r1 := begin("r1", false)
		time.Sleep(time.Second)
		r1.rotate()
		r1.phase(10*time.Second, rotation.Distributing, 2)
		if _, err := r1.Rotate(t.Context(), "other", rotation.Request{By: "me"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		now := func() (all []string) {
			for key, err := range s.Store.Keys(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(key, "/r1") {
					continue
				}
				val, _, err := s.Store.Get(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, fmt.Sprintf("%s %x", key, sha256.Sum256(val)))
			}
			return all
		}
		before := now()
		r2 = begin("r2", true)
		if err := r2.end(); !errors.Is(err, errAlone) {
			t.Fatalf("it ended with %v", err)
		}
		if after := now(); !slices.Equal(before, after) || len(r2.lines) > 0 {
			t.Errorf("it wrote %v and did %v; before, there was %v", after, r2.lines, before)
		}
	})
}

// A replica is unheard since it wrote last, also where it is to write anew; how long that is does
// not depend on when it happens to look.
func TestARosterThatIsToBeWrittenAnewIsUnheardAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		r1 := start(t, s, "r1")
		if r1.Mute() {
			t.Error("it is mute from the start")
		}
		time.Sleep(heartbeat / 2)
		r, _ := s.rollout(t)
		r.Hold = time.Now().Add(time.Hour)
		s.overwrite(t, r)
		s.set(func(_ context.Context, op, key string) error {
			if strings.HasPrefix(key, "roster/") {
				return errors.New("not written")
			}
			return nil
		}, nil)
		r1.Poke("default")
		for range 4 {
			time.Sleep(heartbeat)
			synctest.Wait()
			if !r1.Mute() {
				t.Errorf("it is not mute, and has not been heard for %s", r1.unheard())
			}
		}
		if d := r1.unheard(); d < 4*heartbeat {
			t.Errorf("unheard for %s", d)
		}
		s.set(nil, nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if r1.Mute() || r1.unheard() > heartbeat {
			t.Errorf("mute %v, unheard for %s", r1.Mute(), r1.unheard())
		}
		for range 20 { // events come at any time
			r1.Poke("default")
			time.Sleep(700 * time.Millisecond)
			synctest.Wait()
			if d := r1.unheard(); d > heartbeat {
				t.Fatalf("unheard for %s", d)
			}
		}
	})
}

// A store that hangs is one that cannot be written, before its operations have failed.
func TestAReplicaWhoseStoreHangsIsMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		r1 := start(t, s, "r1")
		defer s.set(nil, nil)
		s.set(func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }, nil)
		time.Sleep(heartbeat*3/2 + time.Second)
		if !r1.Mute() {
			t.Error("it is not")
		}
		s.set(func(_ context.Context, op, key string) error {
			if strings.HasPrefix(key, "ring/") {
				return errors.New("a ring that cannot be used")
			}
			return nil
		}, nil)
		time.Sleep(heartbeat * 3 / 2)
		if st := r1.status(); st.Err == nil || r1.Mute() {
			t.Errorf("mute %v although its roster is written (%v)", r1.Mute(), st.Err)
		}
	})
}

// A fail-over loses the last write, and the replica that looks first is not the one that has it:
// the ring came back from a backup once, and is not burnt for that.
func TestALostWriteCostsARestoredRingNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		r1 := start(t, s, "r1")
		r, _ := s.rollout(t)
		r.Restored = []string{r.Keys[0].Key.Fingerprint()}
		s.overwrite(t, r)
		time.Sleep(6 * time.Second)
		before, _ := s.rollout(t)
		r1.rotate()
		r1.phase(time.Second, rotation.Steady, 3)
		held := r1.status().Version
		s.set(func(_ context.Context, op, key string) error {
			// r1 sees nothing of what follows, for a while
			return errDown
		}, nil)
		s.overwrite(t, before)
		time.Sleep(time.Second)
		r2 := start(t, s.another(), "r2")
		r2.connect("n", held)
		time.Sleep(5 * time.Second)
		if st := r2.status(); st.Phase != rotation.Steady || st.Generation != 1 {
			t.Errorf("%s g%d", st.Phase, st.Generation)
		}
		s.set(nil, nil)
		r1.phase(7*time.Second, rotation.Steady, 3)
		r2.phase(6*time.Second, rotation.Steady, 3)
		if r2.status().Version != held {
			t.Error("another ring")
		}
		r2.phase(2*writeBackWithin, rotation.Steady, 3)

		r1.stop()
		r1 = start(t, s, "r1")
		gone, _ := s.rollout(t)
		gone.Restored = []string{gone.Keys[0].Key.Fingerprint()}
		s.overwrite(t, gone)
		time.Sleep(6 * time.Second)
		r1.connect("far", ringOf(40)) // of which nobody knows
		r1.phase(writeBackWithin-time.Second, rotation.Steady, 3)
		r1.phase(3*time.Second, rotation.Burning, 41)
	})
}
