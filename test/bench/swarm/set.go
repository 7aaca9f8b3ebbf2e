package swarm

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// set is nodes of one server.
type set struct {
	ring   string
	nodes  []*node
	round  atomic.Pointer[round]
	failed chan error // failed has capacity 1, for the first failure of a node.
}

// round is something that each node is to accept.
type round struct {
	want  int  // acceptances on each node
	all   bool // of any name; else of the ring
	times []int64
	left  atomic.Int64
	done  chan struct{} // closed when left is 0
}

func newSet(c Command) *set { return &set{ring: c.Ring, failed: make(chan error, 1)} }

func (s *set) begin(want int, all bool, nodes int) *round {
	r := &round{want: want, all: all, times: make([]int64, nodes), done: make(chan struct{})}
	r.left.Store(int64(nodes))
	s.round.Store(r)
	return r
}

// connect makes all connections and waits until every node has what it asked for.
func (s *set) connect(c Command) (Reply, error) {
	var config *tls.Config
	if c.TLS != nil {
		var err error
		if config, err = c.TLS.Client(); err != nil {
			return Reply{}, err
		}
	}
	r := s.begin(len(c.Names), true, c.Nodes)
	places := make(chan struct{}, cmp.Or(c.Parallel, c.Nodes))
	start := time.Now()
	for i := range c.Nodes {
		n := &node{set: s, index: i, id: fmt.Sprintf("node-%05d", i), served: sync.OnceFunc(func() { <-places })}
		s.nodes = append(s.nodes, n)
		places <- struct{}{}
		go func() {
			live := n.live
			if c.GRPC {
				live = n.liveGRPC
			}
			err := live(c.Addr, c.Names, config)
			for c.Refuge != "" {
				// A node tries as often as it takes, since many come to the refuge at once.
				live(c.Refuge, c.Names, config)
				time.Sleep(50 * time.Millisecond)
			}
			select {
			case s.failed <- fmt.Errorf("%s: %w", n.id, err):
			default:
			}
			n.served()
		}()
	}
	reply, err := s.await(r, c.Timeout)
	reply.Start = start.UnixNano()
	return reply, err
}

func (s *set) await(r *round, timeout time.Duration) (Reply, error) {
	select {
	case <-r.done:
		times := slices.Clone(r.times)
		slices.Sort(times)
		return Reply{Median: times[len(times)/2], Last: times[len(times)-1]}, nil
	case err := <-s.failed:
		return Reply{}, err
	case <-time.After(timeout):
		return Reply{}, fmt.Errorf("%d nodes did not accept within %v", r.left.Load(), timeout)
	}
}
