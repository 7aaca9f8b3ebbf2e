//go:build !failpoint

package daemon

import (
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// withFailpoints and failpoint do nothing in a build without the tag failpoint; see failpoint.go.
func withFailpoints(s store.Store) store.Store { return s }

func failpoint(string) {}

// clock is this machine's.
func clock() time.Time { return time.Now() }
