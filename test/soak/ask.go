package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// lockstep runs the CLI against a replica. Data comes with exit code 3, too.
func (s *stage) lockstep(ctx context.Context, p *plane, args ...string) ([]byte, error) {
	args = append([]string{"--data-dir", p.Data}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "lockstep"), args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("lockstep %v: %w: %s", args, err, errs.String())
	}
	return out, err
}

// event is one of `lockstep events -o json`.
type event struct {
	At                                     time.Time
	Kind, Node, Name, Text, Replica, Phase string
	Version                                string
	Rotation                               uint64
}

// events asks a replica for all that happened since.
func (s *stage) events(ctx context.Context, p *plane, since time.Time) (all []event, err error) {
	out, err := s.lockstep(ctx, p, "events", "--since", since.Format(time.RFC3339Nano), "-o", "json")
	if err != nil {
		return nil, err
	}
	var said struct {
		Events   []event
		Replicas []string
		Silent   []string
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return nil, err
	}
	if len(said.Replicas) != len(s.planes) || len(said.Silent) > 0 {
		err = fmt.Errorf("events of %v, silent %v", said.Replicas, said.Silent)
	}
	return said.Events, err
}

// show asks a replica for something else.
func (s *stage) show(ctx context.Context, p *plane, into any, args ...string) error {
	out, err := s.lockstep(ctx, p, append([]string{"-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

// until calls check until it returns nil. It does so rarely, since each starts a program.
func until(ctx context.Context, check func() error) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // else the end of ctx may be all that it says
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), last)
		case <-tick.C:
		}
	}
}
