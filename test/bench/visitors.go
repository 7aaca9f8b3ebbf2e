package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/lockstep-tls/lockstep/test/bench/visit"
)

// The servers of the edge's lines have a core, and clients and upstream have another.
const serverCore, clientCore = "0", "1"

// oneCore is the environment of a Go program that has one.
var oneCore = []string{"GOMAXPROCS=1"}

// visitors is a process of clients, on their core. It ends with its input, and so with the bench.
type visitors struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

func (b *bench) visitors() (*visitors, error) {
	v := &visitors{cmd: exec.Command("taskset", "-c", clientCore, b.self, "visit")}
	v.cmd.Stderr, v.cmd.Env = os.Stderr, append(os.Environ(), oneCore...)
	in, err := v.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	v.in, v.enc, v.dec = in, json.NewEncoder(in), json.NewDecoder(out)
	return v, v.cmd.Start()
}

// do carries out a command.
func (v *visitors) do(c visit.Command) (r visit.Reply, err error) {
	if err := v.enc.Encode(c); err != nil {
		return r, fmt.Errorf("the clients: %w", err)
	}
	if err := v.dec.Decode(&r); err != nil {
		return r, fmt.Errorf("the clients: %w", err)
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (v *visitors) close() {
	v.in.Close()
	v.cmd.Wait() // how it ends does not matter any more
}
