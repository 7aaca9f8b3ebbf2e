package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// sealed starts a replica on a store in which damaged records do not open.
func sealed(t *testing.T, s *faulty, replica string, m HighestSent) *plane {
	t.Helper()
	cure := func(c *Config) { c.Cure = func(scope string) string { return "give " + scope + " a ring" } }
	return start(t, s, replica, on(unsealed{s}), remembers(m), cure)
}

// A damaged ring is written back by the replicas that have it, and meanwhile nothing is changed.
func TestADamagedRingIsWrittenBackByThoseWhoHaveIt(t *testing.T) {
	for name, begin := range map[string]func(*testing.T, *faulty, string) *plane{
		"nonsense":      func(t *testing.T, s *faulty, replica string) *plane { return start(t, s, replica) },
		"does not open": func(t *testing.T, s *faulty, replica string) *plane { return sealed(t, s, replica, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				r1, r2 := begin(t, s, "r1"), begin(t, s, "r2")
				a := r1.connect("a", "")
				time.Sleep(time.Second)
				r1.rotate()
				r1.phase(20*time.Second, rotation.Steady, 3)
				r2.phase(5*time.Second, rotation.Steady, 3)
				before := r1.status().Version
				s.damage(t, "ring/default")
				_, err := r1.Rotate(t.Context(), "default", rotation.Request{By: "me"})
				if err == nil || !strings.Contains(err.Error(), "is written back in") {
					t.Errorf("at once: %v", err)
				}
				time.Sleep(12 * time.Second)
				synctest.Wait()
				stored, _ := s.rollout(t)
				if got := stored.Ring().Version(); got != before || a.got() != "[1 2 3]" {
					t.Fatalf("the store has %s, want %s; a was sent %s", got, before, a.got())
				}
				if l := stored.History[len(stored.History)-1]; l.What != "written-back" ||
					!strings.Contains(l.Why, "damaged") ||
					!strings.HasSuffix(r1.announced()+r2.announced(), "written-back") {
					t.Errorf("the history: %+v; announced %s and %s", l, r1.announced(), r2.announced())
				}
				b := r2.connect("b", "")
				r2.rotate()
				r2.phase(20*time.Second, rotation.Steady, 5)
				if !strings.HasPrefix(b.got(), "[3") {
					t.Errorf("b was sent %s", b.got())
				}
			})
		})
	}
}

// One replica has not read the newest ring when it is damaged, and is the first to write its own
// back: nothing is built on it.
func TestTheHighestOfTheRingsThatAreWrittenBackWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		ahead, behind := sealed(t, s, "ahead", nil), sealed(t, s, "behind", nil)
		old := behind.status()
		time.Sleep(7 * time.Second)
		if _, err := ahead.Burn(t.Context(), "default", "me", ""); err != nil {
			t.Fatal(err)
		}
		want := ahead.status().Version
		s.damage(t, "ring/default")
		sc := behind.scopes["default"] // writes it back early
		turn, err := sc.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		turn.damagedSince = time.Now().Add(-time.Hour)
		turn.release()
		sc.lookSoon()
		synctest.Wait()
		if stored, _ := s.rollout(t); stored.Generation != old.Generation {
			t.Fatalf("the store has g%d", stored.Generation)
		}
		if _, err := behind.Rotate(t.Context(), "default", rotation.Request{By: "me"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		stored, _ := s.rollout(t)
		if got := stored.Ring().Version(); got != want {
			t.Errorf("the store has %s, want %s", got, want)
		}
	})
}

// All replicas have restarted: nobody has the ring. Nothing is served and nothing made, until an
// operator says how to go on.
func TestADamagedRingThatNobodyHasWaitsForTheOperator(t *testing.T) {
	const mark = 7
	lay := func(t *testing.T, s *faulty) (p *plane, backup []byte) {
		p = start(t, s, "r1")
		for range 2 {
			p.rotate()
			time.Sleep(time.Second)
		}
		r, _ := s.rollout(t)
		backup = encoded(t, r)
		p.stop()
		s.damage(t, "ring/default")
		return sealed(t, s, "r1", &sentMost{m: map[string]uint64{"default": mark}}), backup
	}
	settles := func(p *plane, n *client, want string) {
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if p.status().Err != nil || n.got() != want {
			p.t.Errorf("the node was sent %s, want %s; err %v", n.got(), want, p.status().Err)
		}
	}
	t.Run("burn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			p, _ := lay(t, s)
			n := p.connect("a", "")
			if _, err := p.Burn(t.Context(), "default", "me", "early"); err == nil ||
				!strings.Contains(err.Error(), "another replica may have it") {
				t.Errorf("at once: %v", err)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			_, err := p.Rotate(t.Context(), "default", rotation.Request{By: "me"})
			for _, err := range []error{p.status().Err, err} {
				if !errors.Is(err, store.ErrSealed) ||
					!strings.HasSuffix(err.Error(), "nothing rotates: give default a ring") {
					t.Errorf("it says %v", err)
				}
			}
			if n.got() != "[]" {
				t.Fatalf("the node was sent %s", n.got())
			}
			if _, err := p.Burn(t.Context(), "default", "me", "it is lost"); err != nil {
				t.Fatal(err)
			}
			settles(p, n, "[8]")
		})
	})
	t.Run("a backup of before the mark", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			p, backup := lay(t, s)
			n := p.connect("a", "")
			time.Sleep(time.Minute)
			out, err := p.Restore(t.Context(), "default", "me", backup)
			if err != nil || len(out.Back) != 0 || len(out.Refused) != 1 || !out.Changed {
				t.Fatalf("%+v %v", out, err)
			}
			settles(p, n, "[8]")
		})
	})
	t.Run("a backup of the last ring", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			p, backup := lay(t, s)
			from, err := rotation.Decode("default", backup)
			if err != nil {
				t.Fatal(err)
			}
			from.Generation = mark
			n := p.connect("a", "")
			time.Sleep(time.Minute)
			out, err := p.Restore(t.Context(), "default", "me", encoded(t, from))
			if err != nil || len(out.Back) != len(from.Keys) {
				t.Fatalf("%+v %v", out, err)
			}
			settles(p, n, "[8]")
		})
	})
}

// What another version wrote is not damage: it is neither served nor overwritten.
func TestARingOfAnotherVersionIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1")
		r, rev := s.rollout(t)
		later := edited(t, r, "needs", []string{"a version to come"})
		if _, err := s.Store.Swap(t.Context(), "ring/default", rev, later); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if val, _, _ := s.Store.Get(t.Context(), "ring/default"); string(val) != string(later) ||
			p.status().Err == nil {
			t.Errorf("it was overwritten; err %v", p.status().Err)
		}
	})
}

// A replica that lacks the key with which the others seal overwrites nothing.
func TestARingThatIsSealedWithAnotherKeyIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		wrong := errors.New("no record opens")
		p := start(t, s, "r1", on(unsealed{s}), func(c *Config) {
			c.Unsealed = func(context.Context) error { return wrong }
		})
		s.damage(t, "ring/default")
		time.Sleep(time.Minute)
		synctest.Wait()
		val, _, err := s.Store.Get(t.Context(), "ring/default")
		if err != nil || string(val) != "flipped" || !errors.Is(p.status().Err, wrong) {
			t.Errorf("the store has %q, err %v; the scope says %v", val, err, p.status().Err)
		}
		if _, err := p.Burn(t.Context(), "default", "me", ""); !errors.Is(err, wrong) {
			t.Errorf("a burn: %v", err)
		}
	})
}
