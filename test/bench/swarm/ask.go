package swarm

import (
	"fmt"
	"time"
)

// ask is the work of one stream that wants names one by one, as an Envoy with on-demand certificates does: each name is asked for in a
// message of its own, when a client comes for it, and each answer is ACKed in a message of its own, as it comes.
func ask(c Command) (reply Reply, err error) {
	cn, err := dial(c.Addr, nil, deltaSecrets)
	if err != nil {
		return reply, err
	}
	defer cn.nc.Close()
	if err := cn.nc.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		return reply, err
	}
	node := "node-00000"
	waiting := 0 // for an answer
	var b []byte
	take := func(message []byte) error {
		r, err := parse(message, "")
		if err != nil {
			return err
		}
		reply.Resources += r.resources
		reply.Removed += r.removed
		waiting -= r.resources + r.removed
		b = request(b[:0], "", r.nonce)
		cn.send(b)
		return nil
	}
	reply.Tenths, err = tenths(c.Count, func(i int) error {
		name := fmt.Sprintf(c.Pattern, i)
		b = request(b[:0], node, "", name)
		node = ""
		cn.send(b)
		waiting++
		for waiting > c.Ahead || i == c.Count-1 && waiting > 0 {
			if err := cn.exchange(take); err != nil {
				return fmt.Errorf("asking for %s: %w", name, err)
			}
		}
		return nil
	})
	return reply, err
}

// echoPath is any method: a bare server answers all alike.
const echoPath = "/bench.Echo/Echo"

// echo is an exchange of messages of that length with a server that does nothing.
func echo(c Command) (reply Reply, err error) {
	cn, err := dial(c.Addr, nil, echoPath)
	if err != nil {
		return reply, err
	}
	defer cn.nc.Close()
	if err := cn.nc.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		return reply, err
	}
	var b []byte
	var answered bool
	take := func([]byte) error { answered = true; return nil }
	reply.Tenths, err = tenths(c.Count, func(i int) error {
		b = request(b[:0], "", "", fmt.Sprintf(c.Pattern, i))
		cn.send(b)
		for answered = false; !answered; {
			if err := cn.exchange(take); err != nil {
				return fmt.Errorf("echo: %w", err)
			}
		}
		return nil
	})
	return reply, err
}

// exchange writes what waits and reads one frame.
func (c *conn) exchange(take func([]byte) error) error {
	if err := c.flush(); err != nil {
		return err
	}
	return c.receive(take)
}

// tenths calls f count times and times each tenth.
func tenths(count int, f func(i int) error) (times []time.Duration, err error) {
	begin := time.Now()
	for i := range count {
		if err := f(i); err != nil {
			return times, err
		}
		if (i+1)*10/count > len(times) {
			now := time.Now()
			times = append(times, now.Sub(begin))
			begin = now
		}
	}
	return times, nil
}
