//go:build !failpoint

package failpoint

import (
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// Hit does nothing.
func Hit(string) {}

// Clock is this machine's.
func Clock() time.Time { return time.Now() }

// Store is s.
func Store(s store.Store) store.Store { return s }
