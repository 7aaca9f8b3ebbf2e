// Package rest gives memory back to the system once a burst of work is over.
//
// A fleet that connects or acknowledges leaves garbage and grown stacks behind, for minutes where
// nothing happens then. So memory is collected and given back to the system once it is quiet. That
// takes some ten milliseconds for some thousand nodes, and is not done while there is work.
package rest

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// These say when a burst is over.
const (
	lullTick  = time.Second
	lullTicks = 3       // so long it must be quiet
	lullQuiet = 1 << 20 // bytes allocated in a tick
	lullWorth = 8 << 20 // bytes allocated since the last time
)

// lull finds the moment at which a burst is over.
type lull struct {
	last  uint64 // bytes allocated ever, at the last tick
	given uint64 // when memory was given back last
	quiet int    // ticks
}

// over is called each tick with the bytes allocated ever, and reports whether memory is to be given
// back now.
func (l *lull) over(allocated uint64) bool {
	if allocated-l.last > lullQuiet {
		l.quiet = 0
	} else {
		l.quiet++
	}
	l.last = allocated
	if l.quiet < lullTicks || allocated-l.given < lullWorth {
		return false
	}
	l.given = allocated
	return true
}

// Run gives memory back after bursts until ctx ends.
func Run(ctx context.Context) error {
	tick := time.NewTicker(lullTick)
	defer tick.Stop()
	read := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var l lull
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if metrics.Read(read); l.over(read[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}
