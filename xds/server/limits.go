package server

import "time"

// limits bound what one stream may cost. Production uses defaults, tests use small ones.
type limits struct {
	names int // names on a stream; with more of them the stream is ended
	// wire is how many bytes a node needs at most to list its on-demand names again. A name beyond
	// that is called absent.
	wire    int
	nameLen int // bytes of a name; a longer one is absent
	// unacked is how many bytes may be sent and not acknowledged. At the bound names stay due
	// until an acknowledgement comes.
	unacked  int
	inFlight int // responses that may be sent and not acknowledged, likewise
	// nonces is how many responses are remembered, so that their acknowledgements are understood.
	// It is above inFlight, so that none in flight is forgotten.
	nonces int
	types  int // ignored types that are remembered, so that each is logged once
	burst  int // resources or removals that share a response
	bytes  int // bytes at which a shared response is full

	// held is how many names of the on-demand type a node may hold. Above it the oldest are
	// evicted.
	held    int
	grouped int // the same for the names of one group
	// groupSlack is how many more names a group may hold for a moment. So clients that come at the
	// same time find room.
	groupSlack int
	// recentlyEvicted is how many names evicted from groups are remembered, and let in again.
	recentlyEvicted int
	evictGap        time.Duration // the time between two evictions, of either kind
	// evictWait is how long the node may take to unsubscribe from a name that was evicted.
	evictWait time.Duration
	// leaveWait is how long the node may take to unsubscribe from a name that was removed since
	// the node refused it.
	leaveWait time.Duration

	// retry is the backoff of a refused version. It doubles up to retryMax.
	retry, retryMax time.Duration
	// cutOff is how long the transport may take for one response. Then the stream is ended.
	cutOff time.Duration
}

var defaults = limits{
	names:           200_000,
	wire:            24 << 20,
	nameLen:         512,
	unacked:         1 << 20,
	inFlight:        1024,
	nonces:          2048,
	types:           16,
	burst:           64,
	bytes:           256 << 10,
	held:            20_000,
	grouped:         1000,
	groupSlack:      50,
	recentlyEvicted: 16_384, // as many as are evicted in five minutes
	evictGap:        20 * time.Millisecond,
	evictWait:       10 * time.Second,
	leaveWait:       time.Second,
	retry:           time.Second,
	retryMax:        5 * time.Minute,
	cutOff:          20 * time.Second,
}

// wireSize returns how many bytes a name takes at most in the first request of a node that
// reconnects. The node subscribes to it, and says which version it holds, which has at most 32
// bytes.
func wireSize(name string) int { return 2*len(name) + 48 }

const (
	maxNodeID = 256     // bytes of node.id, cluster and agent
	maxWords  = 1 << 10 // bytes kept of a node's reason for a refusal
)
