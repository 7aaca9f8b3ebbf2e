package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// damage puts bytes that nobody can read in the place of a record.
func (s *faulty) damage(t *testing.T, key string) {
	t.Helper()
	_, rev, err := s.Store.Get(t.Context(), key)
	if err == nil {
		_, err = s.Store.Swap(t.Context(), key, rev, []byte("flipped"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// unsealed is a store in which records under a prefix do not open once they are damaged.
type unsealed struct{ *faulty }

func (u unsealed) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	val, rev, err := u.faulty.Get(ctx, key)
	if err == nil && string(val) == "flipped" {
		return nil, rev, fmt.Errorf("%s %w", key, store.ErrSealed)
	}
	return val, rev, err
}

// A roster that cannot be read keeps nobody from working; its nodes are waited for as long as
// those of a dead replica.
func TestARosterThatCannotBeReadStopsNobody(t *testing.T) {
	for name, wrap := range map[string]func(*faulty) store.Store{
		"nonsense":      func(s *faulty) store.Store { return s },
		"does not open": func(s *faulty) store.Store { return unsealed{s} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				r2 := start(t, s, "r2")
				r2.connect("b", "")
				time.Sleep(time.Second)
				r2.kill()
				s.damage(t, "roster/default/r2")

				var log strings.Builder
				r1 := start(t, s, "r1", on(wrap(s)), func(c *Config) { c.Log = logTo(&log) })
				a := r1.connect("a", "")
				time.Sleep(6 * time.Second)
				if err := r1.status().Err; err != nil || a.got() != "[1]" {
					t.Fatalf("a node was sent %s; the scope says %v", a.got(), err)
				}
				if strings.Count(log.String(), "key=roster/default/r2") != 1 {
					t.Errorf("the log: %s", log.String())
				}
				if unread := strings.Join(r1.status().Unreadable, ""); !strings.HasPrefix(unread,
					"roster/default/r2 cannot be read: ") {
					t.Errorf("the status says %q", unread)
				}
				r1.rotate()
				r1.phase(silentFor+10*time.Second, rotation.Distributing, 2)
				if st := r1.status(); !strings.Contains(strings.Join(st.BlockedBy, "\n"),
					"unknown nodes of replica r2") {
					t.Errorf("blocked by %q", st.BlockedBy)
				}
				r1.phase(testPolicy().NodeLease, rotation.Steady, 3)
				time.Sleep(silentFor + heartbeat)
				if _, _, err := s.Store.Get(t.Context(), "roster/default/r2"); !errors.Is(err, store.ErrNotExist) {
					t.Errorf("the roster of the dead replica is still there: %v", err)
				}
				if unread := r1.status().Unreadable; unread != nil {
					t.Errorf("in the end the status says %q", unread)
				}
			})
		})
	}
}

// While the replica writes on, in a form that this one cannot read, its nodes are connected for
// all that is known.
func TestARosterThatCannotBeReadAndChangesIsOfALiveReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		r1 := start(t, s, "r1")
		r1.connect("a", "")
		if _, err := s.Store.Swap(t.Context(), "roster/default/r2", 0, []byte("of a version to come")); err != nil {
			t.Fatal(err)
		}
		r1.rotate()
		for range 30 {
			r1.phase(heartbeat, rotation.Distributing, 2)
			s.damage(t, "roster/default/r2")
		}
	})
}

// A replica whose own roster is damaged starts, and takes its nodes for away.
func TestARestartWithARosterThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1")
		p.connect("a", "")
		time.Sleep(time.Second)
		p.kill()
		s.damage(t, "roster/default/r1")
		p = prepare(t, s, "r1", on(unsealed{s}))
		p.run()
		b := p.connect("b", "")
		p.phase(time.Second, rotation.Steady, 1)
		p.rotate()
		p.phase(testPolicy().NodeLease-3*time.Second, rotation.Distributing, 2)
		p.phase(5*time.Second, rotation.Steady, 3)
		if b.got() != "[1 2 3]" {
			t.Errorf("b was sent %s", b.got())
		}
	})
}

// slowly is a store that takes its time after it looked.
type slowly struct{ *faulty }

func (s slowly) Now(ctx context.Context) (time.Time, error) {
	now, err := s.faulty.Now(ctx)
	time.Sleep(2 * time.Second)
	return now, err
}

func (s slowly) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	val, rev, err := s.faulty.Get(ctx, key)
	time.Sleep(time.Second)
	return val, rev, err
}

func TestASlowStoreDoesNotLookLikeAClockThatIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1", on(slowly{s}))
		p.connect("a", "")
		time.Sleep(time.Minute)
		if got, off := p.Skew(); got != 0 || off {
			t.Errorf("the skew is %s", got)
		}
		p.hangUp()
		p.cancel()
		_ = p.end() // the last roster may not be written within a second
	})
}
