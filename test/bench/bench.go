package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	ring     = "tickets/default"
	patience = 2 * time.Minute // for anything that takes seconds on a good day
)

// bench is what the lines share.
type bench struct {
	root  string // of the checkout
	self  string // this binary
	bin   string // the folder of the programs that are measured
	fleet *fleet.Fleet
	quick bool
	begin time.Time
	ca    *fleet.CA
	pair  fleet.Pair // one certificate for every name under bench.example
	count int        // names processes and folders
	big   string     // see bigData
	huge  string     // see hugeData
}

var programs = []string{"lockstepd", "lockstep-edge"}

func newBench(ctx context.Context, quick bool) (_ *bench, err error) {
	b := &bench{quick: quick, begin: time.Now()}
	if b.root, err = fleet.Root(); err != nil {
		return nil, err
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	built, err := fleet.Build(ctx, programs...)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lockstep-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if b.fleet, err = fleet.New(dir); err != nil {
		return nil, err
	}
	b.bin = filepath.Join(dir, "bin") // a copy: bin/ may be built anew while this runs
	for _, p := range programs {
		if err := copyFile(filepath.Join(built, p), filepath.Join(b.bin, p)); err != nil {
			return nil, err
		}
	}
	if b.ca, err = fleet.NewCA("Lockstep bench CA"); err != nil {
		return nil, err
	}
	b.pair, err = b.ca.Issue(fleet.Leaf{Names: []string{"*.bench.example"}})
	b.pair.Chain = append(b.pair.Chain, b.ca.PEM()...) // as long as a public CA's chain: two certificates
	return b, err
}

func (b *bench) close() {
	if err := errors.Join(b.fleet.Close(), os.RemoveAll(b.fleet.Dir())); err != nil {
		b.say("%v", err)
	}
}

// end kills every server, so that the next line begins with none.
func (b *bench) end() error { return b.fleet.Close() }

// logs shows the end of each server's log.
func (b *bench) logs() {
	for _, p := range b.fleet.Processes() {
		b.say("the end of %s's log:\n%s", p.Name(), p.LogTail(5))
	}
}

func (b *bench) say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%7.1fs  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, a...))
}

// size is n, or less in a quick run.
func (b *bench) size(n, quick int) int {
	if b.quick {
		return quick
	}
	return n
}

// fresh is a name, or a file or folder of the run, that was not there before.
func (b *bench) fresh(prefix string) string {
	b.count++
	return fmt.Sprintf("%s-%d", prefix, b.count)
}

// role starts this binary in another role, with a configuration as JSON.
func (b *bench) role(name string, config any, ready string) (*fleet.Process, error) {
	arg, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return b.fleet.Start(fleet.Command{Name: b.fresh(name), Path: b.self, Args: []string{name, string(arg)}, Ready: ready})
}

// crowd is a swarm process. It ends with its input, and so with the bench.
type crowd struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

func (b *bench) crowd() (*crowd, error) {
	c := &crowd{cmd: exec.Command(b.self, "swarm")}
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.enc, c.dec = in, json.NewEncoder(in), json.NewDecoder(out)
	return c, c.cmd.Start()
}

// do carries out a command.
func (c *crowd) do(cmd swarm.Command) (swarm.Reply, error) {
	if cmd.Timeout == 0 {
		cmd.Timeout = patience
	}
	cmd.Ring = ring
	var r swarm.Reply
	if err := c.enc.Encode(cmd); err != nil {
		return r, fmt.Errorf("the swarm: %w", err)
	}
	if err := c.dec.Decode(&r); err != nil {
		return r, fmt.Errorf("the swarm: %w", err)
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (c *crowd) close() {
	c.in.Close()
	c.cmd.Wait() // how it ends does not matter any more
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}
