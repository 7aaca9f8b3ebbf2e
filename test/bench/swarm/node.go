package swarm

import (
	"crypto/tls"
	"time"
)

// node is one simulated node. It belongs to its goroutine.
type node struct {
	set    *set
	index  int
	id     string
	served func() // served lets the next node connect.

	round *round // the one that count is about
	count int
	acks  []response // in out, not yet flushed
	buf   []byte
}

// live connects, asks for names, and ACKs whatever comes until the connection ends. It returns why
// that ended.
func (n *node) live(addr string, names []string, config *tls.Config) error {
	cn, err := dial(addr, config, deltaSecrets)
	if err != nil {
		return err
	}
	defer cn.nc.Close()
	cn.send(request(nil, n.id, "", names...))
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
