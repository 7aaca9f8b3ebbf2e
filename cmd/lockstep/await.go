package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

const (
	pollEvery = 100 * time.Millisecond
	// pollFor bounds one poll. After it the connection counts as dead.
	pollFor = 5 * time.Second
)

// pollFunc returns how a rotation stands.
type pollFunc func(context.Context) (api.Rotation, error)

// poll returns a pollFunc that finds lockstepd anew after each failure, since a restart may have
// given it another address.
func (a *app) poll(s api.Started) pollFunc {
	var c *api.Client
	return func(ctx context.Context) (r api.Rotation, err error) {
		if c == nil {
			if c, err = a.client(); err != nil {
				return r, err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, pollFor)
		defer cancel()
		if r, err = c.Rotation(ctx, s.Scope, s.Rotation); err != nil {
			c.HTTP.CloseIdleConnections()
			c = nil
		}
		return r, err
	}
}

// errStuck ends a wait for nodes that must be restarted.
var errStuck = errors.New("nodes must be restarted")

// await polls until the rotation has ended. It goes on while lockstepd cannot be reached, since a
// rollout survives a restart. With giveUp it ends with [errStuck] once the rotation waits only for
// nodes that must be restarted.
func (a *app) await(ctx context.Context, s api.Started, giveUp bool, poll pollFunc) (api.Rotation, error) {
	p := newProgress(a.err)
	defer p.clear()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := api.Rotation{Scope: s.Scope, Rotation: s.Rotation}
	var lost error
	for {
		r, err := poll(ctx)
		switch {
		case err == nil:
			last, lost = r, nil
			if r.Ended {
				return r, nil
			}
			if giveUp && r.OnlyStuck {
				return r, exit{
					exitDegraded, fmt.Errorf("%w: rotation %d of scope %q goes on, and waits for nothing else: %s",
						errStuck, r.Rotation, r.Scope, strings.Join(r.Stuck, "; "))}
			}
			p.show(r)
		case ctx.Err() != nil: // the select below reports it
		case final(err):
			return last, err
		default:
			lost = err
			p.lost(last, err)
		}
		select {
		case <-ctx.Done():
			return last, a.outOfTime(ctx, last, lost)
		case <-tick.C:
		}
	}
}

// final reports whether err is an answer that will not change. A server that is starting, or cannot
// reach its store, answers too, but may do better soon.
func final(err error) bool {
	var answer *api.Error
	return errors.As(err, &answer) && answer.Code != api.Failed
}

func (a *app) outOfTime(ctx context.Context, r api.Rotation, lost error) error {
	which := fmt.Sprintf("rotation %d of scope %q", r.Rotation, r.Scope)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("interrupted; %s goes on: lockstep status shows it", which)
	}
	said := fmt.Sprintf("%s has not ended within %s (--timeout); it goes on", which, a.limit)
	if r.Phase != "" {
		said += fmt.Sprintf(". It is %s, accepted by %d of %d", r.Phase, r.Nodes.Accepted, r.Nodes.Live)
	}
	if len(r.BlockedBy) > 0 {
		said += ". Blocked by: " + strings.Join(r.BlockedBy, "; ") +
			" (lockstep exclude NODE --for 1h lets the others go on)"
	}
	if lost != nil {
		said += ". At last: " + lost.Error()
	}
	return exit{exitTimedOut, errors.New(said)}
}
