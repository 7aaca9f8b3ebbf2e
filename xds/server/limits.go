package server

import "time"

// limits bound what one stream may cost. Production uses defaults; tests use small ones.
type limits struct {
	names    int // names on a stream; more end it
	wire     int // bytes that a node needs at most to list its names again, on demand: more are absent
	nameLen  int // bytes of a name; a longer one is absent
	unacked  int // bytes sent and not acknowledged; at the bound names stay due until an acknowledgement comes
	inFlight int // responses sent and not acknowledged, likewise
	nonces   int // responses whose acknowledgement is still understood; above inFlight, so that none in flight is forgotten
	types    int // ignored types that are remembered, so that each is logged once
	burst    int // resources or removals that share a response
	bytes    int // bytes at which a shared response is full

	held      int           // names that a node holds of a type on demand; above it the oldest are evicted
	grouped   int           // of one group of names; likewise
	groupOver int           // names that a group may hold beyond that for a moment: so many clients that come at once find room
	ghosts    int           // names that were evicted from a group and are let in again
	evictGap  time.Duration // between two evictions, of either kind
	evictWait time.Duration // for the node to unsubscribe from what was evicted
	leaveWait time.Duration // for the node to unsubscribe from what it refused, and what was removed therefore

	retry, retryMax time.Duration // backoff of a refused version: doubles from one to the other
	cutOff          time.Duration // how long the transport may take for one response before the stream is ended
}

var defaults = limits{
	names:     200_000,
	wire:      24 << 20,
	nameLen:   512,
	unacked:   1 << 20,
	inFlight:  1024,
	nonces:    2048,
	types:     16,
	burst:     64,
	bytes:     256 << 10,
	held:      20_000,
	grouped:   1000,
	groupOver: 50,
	ghosts:    16_384, // what is evicted in five minutes
	evictGap:  20 * time.Millisecond,
	evictWait: 10 * time.Second,
	leaveWait: time.Second,
	retry:     time.Second,
	retryMax:  5 * time.Minute,
	cutOff:    20 * time.Second,
}

// wireSize is what a name takes at most in the first request of a node that comes back: it subscribes to it, and says which version it holds, of 32 bytes at most.
func wireSize(name string) int { return 2*len(name) + 48 }

const (
	maxNodeID = 256     // bytes of node.id, cluster and agent
	maxWords  = 1 << 10 // bytes kept of a node's reason for a refusal
)
