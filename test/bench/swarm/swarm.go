// Package swarm simulates thousands of xDS nodes in one process, each on a connection of its own,
// at as little cost as it can, so that what is measured is the server. HTTP/2 frames and protobuf
// fields are written and read by hand: a node looks at the nonce of a response and at the names in
// it, and ACKs it. It knows the protocol only, and so treats every server alike.
package swarm

import (
	"fmt"
	"syscall"
	"time"
)

// Command is one order.
type Command struct {
	// Op is one of:
	//   connect  opens Nodes connections to Addr under the name Set; answers when each node has accepted all Names
	//   arm      from now on, Accepts acceptances of Ring are awaited on each node of Set
	//   wait     answers when what was armed has come
	//   ask      asks for Count names on one stream, one after the other
	//   echo     exchanges Count messages on one echo stream, as long as the asks would be
	//   close    cuts the connections of Set
	Op     string
	Set    string   `json:",omitempty"`
	Addr   string   `json:",omitempty"`
	Refuge string   `json:",omitempty"` // connect: where nodes go whose connection ends
	Nodes  int      `json:",omitempty"`
	Names  []string `json:",omitempty"`
	// connections that are being made at a time; 0: all at once
	Parallel int    `json:",omitempty"`
	TLS      *Files `json:",omitempty"`
	// connect: nodes are clients of grpc-go, without TLS; else a bare HTTP/2 client, which costs
	// half as much
	GRPC    bool   `json:",omitempty"`
	Ring    string `json:",omitempty"`
	Accepts int    `json:",omitempty"`
	Pattern string `json:",omitempty"` // of the names that are asked for, with one %d
	Count   int    `json:",omitempty"`
	// ask: how many names may wait for their answer when the next is asked for
	Ahead   int           `json:",omitempty"`
	Timeout time.Duration `json:",omitempty"`
}

// Reply answers a command. Times are Unix nanoseconds of this machine's clock.
type Reply struct {
	Start     int64           // connect: before the first dial
	Median    int64           // when half the nodes had sent their ACK
	Last      int64           // when all had
	Tenths    []time.Duration `json:",omitempty"` // ask, echo: what each tenth took
	Resources int             `json:",omitempty"` // ask: answered with a resource
	Removed   int             `json:",omitempty"` // ask: answered with a removal
}

// New returns what carries out the orders of one process.
func New() func(Command) (Reply, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		files.Cur = files.Max
		// a dial will say if they do not suffice
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	}
	sets := map[string]*set{}
	return func(c Command) (r Reply, err error) {
		s := sets[c.Set]
		switch {
		case c.Op == "connect":
			sets[c.Set] = newSet(c)
			r, err = sets[c.Set].connect(c)
		case c.Op == "ask":
			r, err = ask(c)
		case c.Op == "echo":
			r, err = echo(c)
		case s == nil:
			err = fmt.Errorf("there is no set %q", c.Set)
		case c.Op == "arm":
			s.begin(c.Accepts, false, len(s.nodes))
		case c.Op == "wait":
			r, err = s.await(s.round.Load(), c.Timeout)
		case c.Op == "close":
			delete(sets, c.Set)
			s.close()
		default:
			err = fmt.Errorf("there is no %q", c.Op)
		}
		if err != nil {
			err = fmt.Errorf("swarm: %s %s %s: %w", c.Op, c.Set, c.Addr, err)
		}
		return r, err
	}
}
