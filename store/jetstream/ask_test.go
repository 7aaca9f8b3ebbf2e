package jetstream

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// Patience may end in the middle of an attempt, which then says only that.
func TestWhatAServerSaidIsNotForgottenAsPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{domain: "hub", refusals: &refusals{}}
		began := time.Now()
		err := s.persist(t.Context(), func(ctx context.Context) (again bool, err error) {
			if time.Since(began) < patience-attempt/2 {
				return true, nats.ErrNoResponders
			}
			<-ctx.Done()
			return true, ctx.Err()
		})
		if err == nil || !strings.Contains(err.Error(), "the domain hub") {
			t.Errorf("%v, want the domain in it", err)
		}
	})
}
