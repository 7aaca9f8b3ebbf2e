package replica

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

const (
	// twinAfter is how often another process must have written this replica's record. Once is the
	// process before, or a store that was put back.
	twinAfter = 2
	// twinFor is how long the problem stands after that was seen last.
	twinFor = 2 * time.Minute
)

// twin is another process that has the name of this replica.
type twin struct {
	rec  record // rec is what it wrote last.
	n    int
	last time.Time
}

// recognize looks whether somebody else has written this replica's record, after this process did.
// The caller holds the lock.
func (r *Registry) recognize(own record, local time.Time) {
	if local.Sub(r.twin.last) > twinFor {
		r.twin = twin{}
	}
	if r.wrote.Run == "" {
		return
	}
	// A version that does not know Run keeps it.
	if own.Run != r.run || own.Started.Sub(r.wrote.Started).Abs() > slack {
		r.twin = twin{own, r.twin.n + 1, local}
	}
}

// problems says that another process has this replica's name.
func (t twin) problems(replica string, offset time.Duration) []api.Problem {
	if t.n < twinAfter || time.Since(t.last) > twinFor {
		return nil
	}
	return []api.Problem{problems.New(problems.ReplicaTwice, replica, fmt.Sprintf(
		"another lockstepd has the name of this replica, %s: it started at %s, and gives its admin API as %q; "+
			"each writes over what the other says of its nodes",
		replica, t.rec.Started.Add(-offset).UTC().Format(time.RFC3339), t.rec.Admin))}
}
