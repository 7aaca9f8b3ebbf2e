package presence

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// maxID bounds the node ids that are kept, in bytes. Nodes choose them.
const maxID = 256

// tracker knows which nodes have a stream to this replica. The goroutines of streams call it.
type tracker struct {
	mu    sync.Mutex
	nodes map[string]*node
	// left are the nodes whose last stream has ended since take was called. Beyond maxLeft, which
	// is what the records take, those that left first give way.
	left map[string]*node
}

const (
	maxLeft = shards * shardMax
	// leftSlack is how many more there may be, so that few calls look for the oldest.
	leftSlack = maxLeft / 8
)

// node is one with a stream, or one that had some.
type node struct {
	streams  []uint64
	since    time.Time // since is when it came, or when it left.
	identity string
	rings    []held // rings are those that it has accepted last. There is mostly one.
}

// held is the version of a scope's ring that a node has.
type held struct{ scope, version string }

// accepted notes a version. The list is made anew, since others may read the old one.
func (n *node) accepted(scope, version string) {
	i := slices.IndexFunc(n.rings, func(h held) bool { return h.scope == scope })
	if i >= 0 && n.rings[i].version == version {
		return
	}
	rings := slices.Clone(n.rings)
	if i < 0 {
		rings = append(rings, held{scope: strings.Clone(scope)})
		i = len(rings) - 1
	}
	rings[i].version = version
	n.rings = rings
}

func newTracker() *tracker {
	return &tracker{nodes: map[string]*node{}, left: map[string]*node{}}
}

// observe takes what happened on a stream. It reports whether the node has come or has left, and
// since when it had been here.
func (t *tracker) observe(e xds.Event) (came, went bool, since time.Time) {
	id := e.Node.ID
	if id == "" || len(id) > maxID {
		return false, false, since
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[id]
	switch e.Kind {
	case xds.Closed:
		if n == nil {
			return false, false, since
		}
		i := slices.Index(n.streams, e.Node.Stream)
		if i < 0 {
			return false, false, since
		}
		if n.streams = slices.Delete(n.streams, i, i+1); len(n.streams) > 0 {
			return false, false, since
		}
		delete(t.nodes, id)
		since, n.since, n.streams = n.since, time.Now(), nil
		t.left[id] = n
		t.bound()
		return false, true, since
	case xds.Asked:
		if n == nil {
			n = &node{since: time.Now()}
			if before := t.left[id]; before != nil {
				n.rings = before.rings
				delete(t.left, id)
			}
			t.nodes[id], came = n, true
		}
		if !slices.Contains(n.streams, e.Node.Stream) {
			n.streams = append(n.streams, e.Node.Stream)
		}
		n.identity = e.Node.Identity
	case xds.Accepted:
		if scope, ring := keysource.RingScope(e.Name); ring && n != nil {
			n.accepted(scope, e.Version)
		}
	}
	return came, false, since
}

// take returns copies of the nodes that are here, and of those that have left since the last call.
func (t *tracker) take() (here, left map[string]node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	here = make(map[string]node, len(t.nodes))
	for id, n := range t.nodes {
		here[id] = node{since: n.since, identity: n.identity, rings: n.rings}
	}
	left = make(map[string]node, len(t.left))
	for id, n := range t.left {
		left[id] = *n
	}
	clear(t.left)
	return here, left
}

// giveBack puts back what take returned as left, since it could not be written.
func (t *tracker) giveBack(left map[string]node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range left {
		if t.nodes[id] == nil && t.left[id] == nil {
			t.left[id] = &n
		}
	}
	t.bound()
}

// bound forgets those that left first, if there are too many. The caller holds the lock.
func (t *tracker) bound() {
	if len(t.left) <= maxLeft+leftSlack {
		return
	}
	ids := slices.SortedFunc(maps.Keys(t.left), func(a, b string) int {
		return t.left[a].since.Compare(t.left[b].since)
	})
	for _, id := range ids[:len(ids)-maxLeft] {
		delete(t.left, id)
	}
}

// has reports whether the node is here.
func (t *tracker) has(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[id] != nil
}
