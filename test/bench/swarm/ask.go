package swarm

import (
	"fmt"
	"time"
)

// ask is the work of one stream that wants names one by one, as an Envoy with on-demand
// certificates does: each name is asked for in a message of its own, when a client comes for it,
// and each answer is ACKed in a message of its own, as it comes.
func ask(c Command) (reply Reply, err error) {
	var b []byte
	node, waiting := "node-00000", 0 // waiting for an answer
	take := func(cn *conn, message []byte) error {
		r, err := parse(message, "")
		reply.Resources += r.resources
		reply.Removed += r.removed
		waiting -= r.resources + r.removed
		b = request(b[:0], "", r.nonce)
		cn.send(b)
		return err
	}
	reply.Tenths, err = exchange(c, deltaSecrets, take, func(cn *conn, i int) (wanting func() bool) {
		b = request(b[:0], node, "", fmt.Sprintf(c.Pattern, i))
		node = ""
		cn.send(b)
		waiting++
		return func() bool { return waiting > c.Ahead || i == c.Count-1 && waiting > 0 }
	})
	return reply, err
}

// echoPath is any method: a bare server answers all alike.
const echoPath = "/bench.Echo/Echo"

// echo is an exchange of messages of that length with a server that does nothing.
func echo(c Command) (reply Reply, err error) {
	var b []byte
	waiting := false
	take := func(*conn, []byte) error { waiting = false; return nil }
	reply.Tenths, err = exchange(c, echoPath, take, func(cn *conn, i int) func() bool {
		b = request(b[:0], "", "", fmt.Sprintf(c.Pattern, i))
		cn.send(b)
		waiting = true
		return func() bool { return waiting }
	})
	return reply, err
}

// exchange is Count messages on one stream. Send sends one of them, and says whether an answer is
// to come before the next. Take is given the answers.
func exchange(
	c Command, path string, take func(*conn, []byte) error, send func(*conn, int) func() bool,
) (t Tenths, err error) {
	cn, err := dial(c.Addr, nil, path)
	if err != nil {
		return t, err
	}
	defer cn.nc.Close()
	if err := cn.nc.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		return t, err
	}
	took := func(message []byte) error { return take(cn, message) }
	return InTenths(c.Count, func(i int) error {
		for wanting := send(cn, i); wanting(); {
			if err := cn.flush(); err != nil {
				return err
			}
			if err := cn.receive(took); err != nil {
				return fmt.Errorf("message %d: %w", i, err)
			}
		}
		return nil
	})
}
