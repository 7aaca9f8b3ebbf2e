package loss

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store/guard"
)

// Problems says that the store lost its content, and what to do, while that is not settled.
// Otherwise it is empty, and also while the store cannot be read, which others say. So it is if l
// is nil.
func Problems(ctx context.Context, l *guard.Lossy) []api.Problem {
	if l == nil {
		return nil
	}
	at, err := l.Since(ctx)
	if err != nil || at.IsZero() {
		return nil
	}
	p := problems.New(problems.StoreLost, "", fmt.Sprintf("the store lost its content at %s; "+
		"what was being served is written back, and no other certificate is called absent",
		at.UTC().Format(time.RFC3339)))
	p.Since = at
	return []api.Problem{p}
}

// Doubt returns a function that says why a certificate that is missing is not certain to be
// missing: the store may have lost it. The error is nil if it is certain.
func Doubt(l *guard.Lossy) func(context.Context, keysource.Name) error {
	return func(ctx context.Context, n keysource.Name) error {
		if l.Filling() {
			return fmt.Errorf("%s: the store has lost its content and is being filled again", n)
		}
		r, err := l.Stands(ctx)
		if err != nil || r == nil {
			return err
		}
		when := "at " + r.At.UTC().Format(time.RFC3339)
		if r.At.IsZero() {
			when = "(when is not known: the record of it cannot be read)"
		}
		return fmt.Errorf("%s is not in the store, which lost its content %s: put it again, restore a backup, "+
			"or give up what is missing (lockstep cert rm --confirm)", n, when)
	}
}
