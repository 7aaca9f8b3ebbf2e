package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// losing is a Loss whose record stands in the store.
type losing struct{ s *faulty }

const lossKey = "store/lost"

func (l losing) Found(ctx context.Context) error {
	val, err := json.Marshal(time.Now())
	if err != nil {
		return err
	}
	if _, err = l.s.Swap(ctx, lossKey, 0, val); errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

func (l losing) Since(ctx context.Context) (at time.Time, err error) {
	val, _, err := l.s.Get(ctx, lossKey)
	if errors.Is(err, store.ErrNotExist) {
		return at, nil
	}
	if err == nil {
		err = json.Unmarshal(val, &at)
	}
	return at, err
}

// lossy prepares a replica that knows of losses, with what it remembers.
func lossy(t *testing.T, s *faulty, replica string, m HighestSent, changes ...func(*Config)) *plane {
	return prepare(t, s, replica, append(changes, remembers(m), func(c *Config) { c.Loss = losing{s} })...)
}

// All replicas are started anew on a store that was emptied meanwhile. One remembers how far the
// ring had come, one is new.
func TestAStartOnAnEmptiedStoreIsNoNewFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, memory := newFaulty(), &sentMost{m: map[string]uint64{"default": 7}}
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && key == lossKey {
				time.Sleep(time.Second)
			}
			return nil
		}, nil)
		old := lossy(t, s, "old", memory)
		old.run()
		time.Sleep(time.Second / 2)
		synctest.Wait()
		select {
		case <-old.Ready():
			t.Error("nodes may come before it is written down that the store was emptied")
		default:
		}
		<-old.Ready()
		if at, err := (losing{s}).Since(t.Context()); err != nil || at.IsZero() {
			t.Fatalf("the loss is not written down: %v %v", at, err)
		}
		fresh := lossy(t, s, "fresh", &sentMost{})
		fresh.run()
		<-fresh.Ready() // certificates are served
		a, b := old.connect("a", ""), fresh.connect("b", "")
		time.Sleep(writeBackWithin - 5*time.Second)
		synctest.Wait()
		if a.got() != "[]" || b.got() != "[]" {
			t.Fatalf("a was sent %s, b %s", a.got(), b.got())
		}
		if st := fresh.status(); !errors.Is(st.Err, store.ErrLost) ||
			!strings.Contains(st.Err.Error(), "a new one is made in") {
			t.Errorf("the replica that is new says %v", st.Err)
		}
		if _, err := fresh.Rotate(t.Context(), "default", rotation.Request{By: "me"}); !errors.Is(err, store.ErrLost) {
			t.Errorf("a rotation there: %v", err)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if a.got() != "[8]" || b.got() != "[8]" {
			t.Errorf("a was sent %s, b %s", a.got(), b.got())
		}
	})
}

// A replica that is new waits for those that still have the ring.
func TestANewReplicaOnAnEmptiedStoreGetsTheRingOfThoseThatLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		live := lossy(t, s, "live", &sentMost{})
		live.run()
		<-live.Ready()
		live.rotate()
		live.phase(time.Second, rotation.Steady, 3)
		before := live.status().Version
		s.empty(t)
		if err := (losing{s}).Found(t.Context()); err != nil {
			t.Fatal(err)
		}
		fresh := lossy(t, s, "fresh", &sentMost{})
		fresh.run()
		n := fresh.connect("n", "")
		fresh.phase(7*time.Second, rotation.Steady, 3)
		if got := fresh.status().Version; got != before || n.got() != "[3]" {
			t.Errorf("it has %s, want %s; its node was sent %s", got, before, n.got())
		}
	})
}

func TestTheLossOfALiveReplicasStoreIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		live := lossy(t, s, "live", nil)
		live.run()
		<-live.Ready()
		time.Sleep(time.Second)
		s.empty(t)
		live.phase(6*time.Second, rotation.Steady, 1)
		if at, err := (losing{s}).Since(t.Context()); err != nil || at.IsZero() {
			t.Errorf("%v %v", at, err)
		}
	})
}

// Where nobody remembers anything, a scope gets its first ring in the end, and at once where
// nothing was lost.
func TestWhereNobodyRemembersAScopeBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		if err := (losing{s}).Found(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := lossy(t, s, "r1", nil)
		p.run()
		time.Sleep(2*writeBackWithin - time.Second)
		synctest.Wait()
		if n := len(p.status().Keys); n != 0 {
			t.Fatalf("%d keys", n)
		}
		p.phase(3*time.Second, rotation.Steady, 1)

		at := newFaulty()
		q := lossy(t, at, "r1", &sentMost{})
		q.run()
		q.phase(time.Millisecond, rotation.Steady, 1)
	})
}

// A replica whose clock is off leaves a new scope's first ring to others. It was never sent, so it
// is not lost.
func TestAScopeWithoutARingYetIsNotAStoreThatWasEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		off := lossy(t, s, "off", &sentMost{}, clockOff(time.Minute))
		off.run()
		<-off.Ready()
		n := off.connect("n", "")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if at, err := (losing{s}).Since(t.Context()); err != nil || !at.IsZero() {
			t.Fatalf("a loss was written down: %v %v", at, err)
		}
		if n.got() != "[]" {
			t.Errorf("a node was sent %s", n.got())
		}
		right := lossy(t, s, "right", &sentMost{})
		right.run()
		right.phase(time.Second, rotation.Steady, 1)
		off.phase(6*time.Second, rotation.Steady, 1)
		if n.got() != "[1]" {
			t.Errorf("the node was sent %s", n.got())
		}
	})
}
