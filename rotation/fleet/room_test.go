package fleet

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// asksOften asks as often as that is granted, one rotation after the other.
func (p *plane) asksOften(by string) (granted int, err error) {
	p.t.Helper()
	for granted < 20 {
		if _, err = p.Rotate(p.t.Context(), "default", rotation.Request{By: by}); err != nil {
			return granted, err
		}
		granted++
		time.Sleep(15 * time.Second) // the replicas do not wake each other
	}
	return granted, nil
}

// Two replicas share the limit, since it is derived from the ring in the store.
func TestTheRoomForRequestsIsTheFleets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := pair(t)
		for _, p := range []*plane{one, two} {
			p.scopes["default"].policy.Period = time.Hour
		}
		one.connect("a", "")
		two.connect("b", "")
		time.Sleep(time.Second)
		first, err := one.asksOften("NATS")
		if first < 5 || first > 7 || !errors.Is(err, rotation.ErrRefused) ||
			!strings.Contains(err.Error(), "ask again in") {
			t.Fatalf("%d granted, %v", first, err)
		}
		if again, err := two.asksOften("NATS"); again != 0 || !errors.Is(err, rotation.ErrRefused) {
			t.Errorf("%d more at the other replica, %v", again, err)
		}
		said := two.status().Room
		if said.Left == 0 || said.For("NATS").Left != 0 {
			t.Errorf("status says %+v", said)
		}
		if others, err := two.asksOften("token ci"); others == 0 || !errors.Is(err, rotation.ErrRefused) {
			t.Errorf("another requester: %d granted, %v", others, err)
		}
		// The period goes on.
		before := two.status().Begun
		time.Sleep(4*time.Hour + time.Minute)
		if now := two.status().Begun; now < before+4 {
			t.Errorf("%d rotations in 4 h of a period of 1 h; blocked by %q", now-before, two.status().BlockedBy)
		}
		// And who was refused is granted it at the time that was said.
		one.asksOften("NATS")
		time.Sleep(10 * time.Second)
		at := two.status().Room.For("NATS").AgainAt
		time.Sleep(time.Until(at) + 10*time.Second)
		if n, err := two.asksOften("NATS"); n == 0 {
			t.Errorf("10 s after %s: %v", at, err)
		}
	})
}

func TestABurnGoesAtOnceHoweverManyHaveAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := pair(t)
		one.connect("a", "")
		time.Sleep(time.Second)
		for _, by := range []string{"NATS", "token a", "token b", "token c", "token d", "token e", "token f"} {
			if _, err := one.asksOften(by); !errors.Is(err, rotation.ErrRefused) {
				t.Fatalf("%s: %v", by, err)
			}
		}
		if m := one.status().Room; m.Left != 0 {
			t.Fatalf("%+v", m)
		}
		if _, err := two.Burn(t.Context(), "default", "me", "leaked"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if st := one.status(); len(st.Keys) != 1 || st.Phase != rotation.Steady || st.Room.Left == 0 {
			t.Errorf("%s with %d keys, %+v", st.Phase, len(st.Keys), st.Room)
		}
	})
}
