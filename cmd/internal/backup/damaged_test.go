package backup_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// flipped is a store in which some records do not open.
type flipped struct{ store.Store }

func (s flipped) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	val, rev, err := s.Store.Get(ctx, key)
	if string(val) == "flipped" {
		return nil, rev, fmt.Errorf("%s %w", key, store.ErrSealed)
	}
	return val, rev, err
}

// begun stores the first ring of a scope, as lockstepd does.
func begun(t *testing.T, s store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := fleet.New(fleet.Config{
		Store: s, Replica: "r1", Scopes: map[string]rotation.Policy{"default": rotation.DefaultPolicy()},
		Refresh: time.Second, Log: slog.New(slog.DiscardHandler),
		Wake: func(string, []uint64) {}, Announce: func(string, rotation.Line, string) {},
	})
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-c.Ready()
	cancel()
	check(t, <-done)
}

func TestARestoreTakesThePlaceOfWhatIsDamaged(t *testing.T) {
	id, to := pair(t)
	from, ca := memory.New(), newCA(t)
	begun(t, from)
	cert := certify(t, from, ca, "shop.example")
	set(t, from, "x/1", "v")
	b := take(t, from, to)
	into := flipped{memory.New()}
	set(t, into, "ring/default", "flipped")
	set(t, into, "cert/shop.example", "flipped")
	sum, err := restore(t.Context(), into, b, false, id)
	check(t, err)
	if sum.Counts[backup.Replaced] != 2 || get(t, into, "cert/shop.example") != cert {
		t.Errorf("%v", sum)
	}
	if out, _, err := rotation.Restore("default", "test", []byte(get(t, into, "ring/default")),
		[]byte(get(t, from, "ring/default")), time.Now(), nil); err != nil || out == nil {
		t.Errorf("the ring that was restored: %v", err)
	}

	set(t, into, "x/1", "flipped") // of what nothing is known stays
	if _, err := restore(t.Context(), into, b, false, id); err == nil {
		t.Error("a record whose owner may know more of it was overwritten")
	}
}
