package jetstream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A request that has no answer because the servers are away must not be taken for one that this
// user may not make.
func TestAnOldRefusalIsNotWhyARequestHasNoAnswer(t *testing.T) {
	s := &Store{refusals: &refusals{}, api: "$JS.API.", prefix: "lockstep.store.b."}
	refusal := fmt.Errorf("%w: Permissions Violation for Publish to \"$JS.API.STREAM.INFO.b\"",
		nats.ErrPermissionViolation)
	s.refusals.note(refusal)
	if err := s.unanswered(context.DeadlineExceeded); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("one of just now: %v", err)
	}
	s.refusals.note(refusal)
	s.refusals.at = s.refusals.at.Add(-time.Minute)
	for range 2 {
		if err := s.unanswered(context.DeadlineExceeded); err != nil {
			t.Errorf("one of a minute ago: %v", err)
		}
	}
}
