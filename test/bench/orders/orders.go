// Package orders lets the bench have work done by other processes. A process reads orders as lines
// of JSON on its standard input and answers each with a line on its standard output, in the same
// order. It ends with its input.
package orders

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"
)

type answer[R any] struct {
	Err   string `json:",omitempty"`
	Reply R
}

// Serve carries out orders until in ends. It has the collector run seldom: the processor is what is
// scarce.
func Serve[C, R any](in io.Reader, out io.Writer, do func(C) (R, error)) error {
	debug.SetGCPercent(400)
	dec, enc := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var c C
		if err := dec.Decode(&c); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("orders: read: %w", err)
		}
		var a answer[R]
		var err error
		if a.Reply, err = do(c); err != nil {
			a.Err = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("orders: answer: %w", err)
		}
	}
}

// Worker is a process that serves orders. One goroutine at a time may use it.
type Worker[C, R any] struct {
	in  io.Closer
	enc *json.Encoder
	dec *json.Decoder
	cmd *exec.Cmd // cmd is nil if the worker is no process of its own.
}

// New returns the other side of a [Serve] that is called on pipes.
func New[C, R any](in io.WriteCloser, out io.Reader) *Worker[C, R] {
	return &Worker[C, R]{in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out)}
}

// Start starts a process. The caller closes the worker.
func Start[C, R any](cmd *exec.Cmd) (*Worker[C, R], error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w := New[C, R](in, out)
	w.cmd = cmd
	return w, cmd.Start()
}

// Do has an order carried out and waits for the answer.
func (w *Worker[C, R]) Do(c C) (R, error) {
	var a answer[R]
	if err := w.enc.Encode(c); err != nil {
		return a.Reply, fmt.Errorf("orders: send: %w", err)
	}
	if err := w.dec.Decode(&a); err != nil {
		return a.Reply, fmt.Errorf("orders: receive: %w", err)
	}
	if a.Err != "" {
		return a.Reply, errors.New(a.Err)
	}
	return a.Reply, nil
}

// Close ends the process and waits for its end. How it ends does not matter.
func (w *Worker[C, R]) Close() {
	w.in.Close()
	if w.cmd != nil {
		w.cmd.Wait()
	}
}
