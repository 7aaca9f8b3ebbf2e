// Package swarm simulates thousands of xDS nodes in one process, each on a connection of its own, at as little cost as it can, so that
// what is measured is the server. HTTP/2 frames and protobuf fields are written and read by hand: a node looks at the nonce of a response
// and at the names in it, and ACKs it. It knows the protocol only, and so treats every server alike.
//
// The process takes commands as lines of JSON on standard input and answers each with one on standard output; it ends with its input.
package swarm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
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
	Op       string
	Set      string        `json:",omitempty"`
	Addr     string        `json:",omitempty"`
	Refuge   string        `json:",omitempty"` // connect: where nodes go whose connection ends
	Nodes    int           `json:",omitempty"`
	Names    []string      `json:",omitempty"`
	Parallel int           `json:",omitempty"` // connections that are being made at a time; 0: all at once
	TLS      *Files        `json:",omitempty"`
	GRPC     bool          `json:",omitempty"` // connect: nodes are clients of grpc-go, without TLS; else a bare HTTP/2 client, which costs half as much
	Ring     string        `json:",omitempty"`
	Accepts  int           `json:",omitempty"`
	Pattern  string        `json:",omitempty"` // of the names that are asked for, with one %d
	Count    int           `json:",omitempty"`
	Ahead    int           `json:",omitempty"` // ask: how many names may wait for their answer when the next is asked for
	Timeout  time.Duration `json:",omitempty"`
}

// Reply answers a command. Times are Unix nanoseconds of this machine's clock.
type Reply struct {
	Err       string          `json:",omitempty"`
	Start     int64           // connect: before the first dial
	Median    int64           // when half the nodes had sent their ACK
	Last      int64           // when all had
	Tenths    []time.Duration `json:",omitempty"` // ask, echo: what each tenth took
	Resources int             `json:",omitempty"` // ask: answered with a resource
	Removed   int             `json:",omitempty"` // ask: answered with a removal
}

// Main serves commands until in ends.
func Main(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(400) // memory is no object here; the processor is
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		files.Cur = files.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files) // a dial will say if they do not suffice
	}
	sets := map[string]*set{}
	dec, enc := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var c Command
		if err := dec.Decode(&c); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("swarm: command: %w", err)
		}
		r, err := do(sets, c)
		if err != nil {
			r.Err = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("swarm: reply: %w", err)
		}
	}
}

func do(sets map[string]*set, c Command) (Reply, error) {
	switch c.Op {
	case "connect":
		s := newSet(c)
		sets[c.Set] = s
		return s.connect(c)
	case "ask":
		return ask(c)
	case "echo":
		return echo(c)
	}
	s := sets[c.Set]
	if s == nil {
		return Reply{}, fmt.Errorf("swarm: there is no set %q", c.Set)
	}
	switch c.Op {
	case "arm":
		s.arm(c.Accepts)
		return Reply{}, nil
	case "wait":
		return s.wait(c.Timeout)
	case "close":
		delete(sets, c.Set)
		s.close()
		return Reply{}, nil
	}
	return Reply{}, fmt.Errorf("swarm: unknown command %q", c.Op)
}
