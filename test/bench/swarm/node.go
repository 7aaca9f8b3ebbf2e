package swarm

import (
	"crypto/tls"
	"sync/atomic"
	"time"
)

// node is one simulated node. All but end belongs to its goroutine.
type node struct {
	set    *set
	index  int
	id     string
	served func()                 // lets the next node connect
	end    atomic.Pointer[func()] // set once; for close

	round *round // the one that count is about
	count int
	acks  []response // in out, not yet flushed
	buf   []byte
}

// live connects, asks, and ACKs whatever comes until the connection ends.
func (n *node) live(c Command, config *tls.Config) error {
	cn, err := dial(c.Addr, config, deltaSecrets)
	if err != nil {
		return err
	}
	defer cn.nc.Close()
	if !n.begin(func() { cn.nc.Close() }) {
		return nil
	}
	cn.send(request(nil, n.id, "", c.Names...))
	take := func(message []byte) error { return n.take(cn, message) }
	for {
		if cn.in.Buffered() == 0 {
			if err := cn.flush(); err != nil {
				return err
			}
			n.accepted()
		}
		if err := cn.receive(take); err != nil {
			return err
		}
	}
}

// begin says how the node's connection is ended. It reports false if that is to be at once.
func (n *node) begin(end func()) bool {
	n.end.Store(&end)
	return !n.set.closing.Load()
}

func (n *node) take(c *conn, message []byte) error {
	r, err := parse(message, n.set.ring)
	if err != nil {
		return err
	}
	n.buf = request(n.buf[:0], "", r.nonce)
	c.send(n.buf)
	n.acks = append(n.acks, r)
	return nil
}

// accepted counts the acknowledgements that were just written.
func (n *node) accepted() {
	if len(n.acks) == 0 {
		return
	}
	now := time.Now().UnixNano()
	r := n.set.round.Load()
	if n.round != r {
		n.round, n.count = r, 0
	}
	before := n.count
	for _, a := range n.acks {
		if r.all {
			n.count += a.resources + a.removed
		} else if a.found {
			n.count++
		}
	}
	n.acks = n.acks[:0]
	if before < r.want && n.count >= r.want {
		r.times[n.index] = now
		n.served()
		if r.left.Add(-1) == 0 {
			close(r.done)
		}
	}
}
