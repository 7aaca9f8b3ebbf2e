//go:build failpoint

package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// A build with the tag failpoint kills itself (SIGKILL) at the point that $LOCKSTEP_FAILPOINT names, having written the name to
// $LOCKSTEP_FAILPOINT_HIT. Points:
//
//	<step>/before-swap   the step is decided and not written; steps are those of the history (distributing, promoting, done, …)
//	<step>/after-swap    written, and nobody told
//	<step>/after-wake    the streams are woken, NATS is not told
//	roster/before-swap   a roster is about to be written
//	roster/after-swap    it is written
//
// and of the fourth batch of certificates (of up to 1024) of an import, when others may have been acknowledged:
//
//	import/before-swap   its line in the audit log is written, nothing of it is stored
//	import/half-way      half of it is stored
//	import/after-swap    all of it is stored, and nobody told
func failpoint(name string) {
	if name != os.Getenv("LOCKSTEP_FAILPOINT") {
		return
	}
	if err := os.WriteFile(os.Getenv("LOCKSTEP_FAILPOINT_HIT"), []byte(name), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "failpoint:", err)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

// clock is this machine's, off by $LOCKSTEP_CLOCK_OFFSET (a duration).
func clock() time.Time {
	off, _ := time.ParseDuration(os.Getenv("LOCKSTEP_CLOCK_OFFSET"))
	return time.Now().Add(off)
}

func withFailpoints(s store.Store) store.Store { return failing{s} }

var _ store.Bulk = failing{}

// failing sees what is stored before it is sealed.
type failing struct{ store.Store }

func (f failing) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	step := ""
	switch {
	case strings.HasPrefix(key, "roster/"):
		step = "roster"
	case strings.HasPrefix(key, "ring/"):
		var r struct{ History []rotation.Line }
		if json.Unmarshal(val, &r) == nil && len(r.History) > 0 {
			step = string(r.History[len(r.History)-1].What)
		}
	}
	failpoint(step + "/before-swap")
	rev, err := f.Store.Swap(ctx, key, old, val)
	if err == nil {
		failpoint(step + "/after-swap")
	}
	return rev, err
}

var batches atomic.Int32

func (f failing) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	if batches.Add(1) != 4 {
		return store.SwapAll(ctx, f.Store, changes)
	}
	failpoint("import/before-swap")
	half := len(changes) / 2
	out := store.SwapAll(ctx, f.Store, changes[:half])
	failpoint("import/half-way")
	out = append(out, store.SwapAll(ctx, f.Store, changes[half:])...)
	failpoint("import/after-swap")
	return out
}

func (f failing) GetAll(ctx context.Context, keys []string) []store.Value {
	return store.GetAll(ctx, f.Store, keys)
}

func (f failing) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return store.KeysAfter(ctx, f.Store, prefix, last)
}
