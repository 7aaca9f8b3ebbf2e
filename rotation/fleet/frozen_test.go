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

// A store that is being moved takes rosters and nothing else: nodes come and go, and no key
// changes.
func TestAFrozenStoreKeepsNoNodeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		p := start(t, s, "r1")
		a := p.connect("a", "")
		time.Sleep(time.Second)
		a.mute.Store(true)
		p.rotate()
		p.phase(time.Second, rotation.Distributing, 2)
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && strings.HasPrefix(key, "ring/") {
				return fmt.Errorf("%s was not written: %w", key, store.ErrFrozen)
			}
			return nil
		}, nil)
		p.accept(a) // a step is due, and cannot be made
		p.phase(2*time.Second, rotation.Distributing, 2)
		late := p.connect("late", "")
		p.phase(2*time.Second, rotation.Distributing, 2)
		if st := p.status(); late.got() != "[2]" || !errors.Is(st.Err, store.ErrFrozen) {
			t.Fatalf("the node that came was sent %s; the scope says %v", late.got(), st.Err)
		}
		other := start(t, s, "r2") // and so does a replica that starts
		n := other.connect("n", "")
		other.phase(3*time.Second, rotation.Distributing, 2)
		if n.got() != "[2]" {
			t.Errorf("a node of the replica that started was sent %s", n.got())
		}
		s.set(nil, nil)
		p.phase(3*time.Second, rotation.Promoting, 3)
	})
}
