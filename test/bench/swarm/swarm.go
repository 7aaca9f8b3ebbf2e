// Package swarm simulates thousands of xDS nodes in one process, each on a connection of its own,
// at as little cost as it can, so that what is measured is the server. HTTP/2 frames and protobuf
// fields are written and read by hand: a node looks at the nonce of a response and at the names in
// it, and ACKs it. It knows the protocol only, and so treats every server alike.
package swarm

import (
	"fmt"
	"time"
)

// Command is one order.
type Command struct {
	// Op is one of:
	//   connect  opens Nodes connections to Addr under the name Set; answers when each node has
	//            accepted all Names
	//   arm      from now on, Accepts acceptances of Ring are awaited on each node of Set
	//   wait     answers when what was armed has come
	//   ask      asks for Count names on one stream, one after the other
	//   echo     exchanges Count messages on one echo stream, as long as the asks would be
	Op       string
	Set      string
	Addr     string
	Refuge   string // Refuge is where nodes go whose connection ends (connect).
	Nodes    int
	Names    []string
	Parallel int // Parallel is how many connections are being made at a time. 0 means all at once.
	TLS      *Files
	// GRPC says that nodes are clients of grpc-go, without TLS (connect). Else they are bare HTTP/2
	// clients, which cost half as much.
	GRPC    bool
	Ring    string
	Accepts int
	Pattern string // Pattern is of the names that are asked for, with one %d.
	Count   int
	// Ahead is how many names may wait for their answer when the next is asked for (ask).
	Ahead   int
	Timeout time.Duration
}

// Reply answers a command. Times are Unix nanoseconds of this machine's clock.
type Reply struct {
	Start     int64  // Start is before the first dial (connect).
	Median    int64  // Median is when half the nodes had sent their ACK.
	Last      int64  // Last is when all had.
	Tenths    Tenths // Tenths are those of ask and echo.
	Resources int    // Resources is how many names were answered with a resource (ask).
	Removed   int    // Removed is how many were answered with a removal (ask).
}

// Swarm is the nodes of one process. They stay connected until it ends.
type Swarm struct{ sets map[string]*set }

// New returns a swarm without nodes.
func New() *Swarm { return &Swarm{map[string]*set{}} }

// Do carries out an order, as a method of net/rpc. One call at a time is allowed.
func (w *Swarm) Do(c Command, r *Reply) (err error) {
	s := w.sets[c.Set]
	switch {
	case c.Op == "connect":
		w.sets[c.Set] = newSet(c)
		*r, err = w.sets[c.Set].connect(c)
	case c.Op == "ask":
		*r, err = ask(c)
	case c.Op == "echo":
		*r, err = echo(c)
	case s == nil:
		err = fmt.Errorf("there is no set %q", c.Set)
	case c.Op == "arm":
		s.begin(c.Accepts, false, len(s.nodes))
	case c.Op == "wait":
		*r, err = s.await(s.round.Load(), c.Timeout)
	default:
		err = fmt.Errorf("there is no %q", c.Op)
	}
	if err != nil {
		err = fmt.Errorf("swarm: %s %s %s: %w", c.Op, c.Set, c.Addr, err)
	}
	return err
}
