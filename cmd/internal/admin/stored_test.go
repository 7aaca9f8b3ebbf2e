package admin

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/store"
	guards "github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// breaking is a store that cannot be read while down is set.
type breaking struct {
	store.Store
	down atomic.Bool
}

var errAway = errors.New("the store is away")

func (b *breaking) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if b.down.Load() {
		return nil, 0, errAway
	}
	return b.Store.Get(ctx, key)
}

// plain seals nothing.
type plain struct{}

func (plain) Seal(b, _ []byte) ([]byte, error) { return b, nil }
func (plain) Open(b, _ []byte) ([]byte, error) { return b, nil }

// A store that goes away has not thawed, and has not got its content back.
func TestWhatTheStoreSaidStandsWhileItCannotBeRead(t *testing.T) {
	t.Parallel()
	s := &breaking{Store: memory.New()}
	raw := guards.NewFreezable(s, plain{})
	lost := true
	p := NewProblems(ProblemsConfig{
		Vault: &stores.Vault{Raw: raw}, Acks: &problems.Acks{Store: s},
		Lost: func(context.Context) ([]api.Problem, error) {
			switch {
			case s.down.Load():
				return nil, errAway
			case !lost:
				return nil, nil
			}
			return []api.Problem{problems.New(problems.StoreLost, "", "lost")}, nil
		},
	})
	if err := raw.Freeze(t.Context(), guards.Notice{By: "me"}); err != nil {
		t.Fatal(err)
	}
	for _, down := range []bool{false, true} {
		s.down.Store(down)
		p.read(t.Context())
		if len(p.frozen) != 1 || len(p.lost) != 1 {
			t.Errorf("down %v: %v, %v", down, p.frozen, p.lost)
		}
	}
	s.down.Store(false)
	if err := raw.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost = false
	p.read(t.Context())
	if len(p.frozen)+len(p.lost) != 0 {
		t.Errorf("over: %v, %v", p.frozen, p.lost)
	}
}
