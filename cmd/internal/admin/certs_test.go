package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// scripted is a source whose answers are errors by name; a name without one hangs.
type scripted map[keysource.Name]error

func (s scripted) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	err, known := s[n]
	if !known {
		<-ctx.Done()
		return keysource.Certificate{}, ctx.Err()
	}
	return keysource.Certificate{}, err
}

func TestAStatusWaitsForNoStoreThatHangs(t *testing.T) {
	absent := fmt.Errorf("it is %w", keysource.ErrNotExist)
	for name, c := range map[string]struct {
		other scripted
		want  []string
		took  time.Duration
	}{
		"all are read": {scripted{"a": nil, "b": absent, "c": fmt.Errorf("c: %w",
			store.ErrSealed), "d": fmt.Errorf("d: %w", keysource.ErrBadCertificate)}, []string{"a", "c", "d"}, 0},
		"it hangs":        {scripted{"a": nil}, []string{"a"}, lookForClashes},
		"it fails":        {scripted{"a": nil, "b": errors.New("no connection"), "c": nil, "d": nil}, []string{"a"}, 0},
		"nothing clashes": {scripted{"a": absent, "b": absent, "c": absent, "d": absent}, []string{}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			got := clashes(t.Context(), []keysource.Name{"a", "b", "c", "d"}, c.other)
			if took := time.Since(began); !slices.Equal(got, c.want) || took != c.took {
				t.Errorf("%s: %v after %s, want %v after %s", name, got, took, c.want, c.took)
			}
		})
	}
}
