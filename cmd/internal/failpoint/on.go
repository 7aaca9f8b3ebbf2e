//go:build failpoint

package failpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// Hit ends the process if this is the point that was named.
func Hit(point string) {
	if point != os.Getenv("LOCKSTEP_FAILPOINT") {
		return
	}
	if err := os.WriteFile(os.Getenv("LOCKSTEP_FAILPOINT_HIT"), []byte(point), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "failpoint:", err)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

// Clock is this machine's, off by $LOCKSTEP_CLOCK_OFFSET (a duration).
func Clock() time.Time {
	off, _ := time.ParseDuration(os.Getenv("LOCKSTEP_CLOCK_OFFSET"))
	return time.Now().Add(off)
}

// Store has points around the changes of s. It must see values before they are sealed.
func Store(s store.Store) store.Store { return failing{s} }

type failing struct{ store.Store }

func (f failing) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	step := ""
	switch {
	case store.Rosters.Has(key):
		step = "roster"
	case store.Rings.Has(key):
		var r struct{ History []rotation.Line }
		if json.Unmarshal(val, &r) == nil && len(r.History) > 0 {
			step = string(r.History[len(r.History)-1].What)
		}
	}
	Hit(step + "/before-swap")
	rev, err := f.Store.Swap(ctx, key, old, val)
	if err == nil {
		Hit(step + "/after-swap")
	}
	return rev, err
}

var batches atomic.Int32

func (f failing) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	if batches.Add(1) != 4 {
		return f.Store.SwapAll(ctx, changes)
	}
	Hit("import/before-swap")
	half := len(changes) / 2
	out := f.Store.SwapAll(ctx, changes[:half])
	Hit("import/half-way")
	out = append(out, f.Store.SwapAll(ctx, changes[half:])...)
	Hit("import/after-swap")
	return out
}
