package fleet

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

func TestAnotherPolicyCountsFromTheNextDecisionOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := pair(t)
		one.connect("a", "")
		one.phase(time.Minute, rotation.Steady, 1)
		p := testPolicy()
		p.Period, p.TicketLifetime = 10*time.Minute, 20*time.Minute
		if err := one.SetPolicy("default", p); err != nil {
			t.Fatal(err)
		}
		// the other replica has the old file still, and follows
		one.phase(10*time.Minute, rotation.Steady, 3)
		if st, err := two.Status("default"); err != nil || len(st.Keys) != 2 ||
			st.Keys[1].RetiresAt.Sub(st.Now) < 50*time.Minute {
			t.Errorf("the first key made tickets for an hour: %+v, %v", st.Keys, err)
		}
		if st := one.status(); st.Policy != p.After(testPolicy()) {
			t.Errorf("%+v", st.Policy)
		}
		if err := one.SetPolicy("other", p); !errors.Is(err, keysource.ErrNotExist) {
			t.Error(err)
		}
	})
}

// A phase that waits for a node judges it by the lease that is in force.
func TestAShorterLeaseEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, newFaulty(), "r1", alone)
		p.connect("a", "")
		b := p.connect("b", "")
		p.phase(time.Minute, rotation.Steady, 1)
		p.Closed(b.stream)
		p.rotate()
		p.phase(30*time.Second, rotation.Distributing, 2)
		short := testPolicy()
		short.NodeLease = 20 * time.Second
		if err := p.SetPolicy("default", short); err != nil {
			t.Fatal(err)
		}
		p.phase(time.Second, rotation.Steady, 3)
	})
}
