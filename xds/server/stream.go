package server

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

// stream is the shell around a machine: the gRPC stream, the clock, and those who ask for a view.
type stream struct {
	s     *Server
	m     *machine    // belongs to the goroutine in serve
	query chan func() // run by that goroutine
	since time.Time
	ended chan struct{}            // closed when nobody runs queries any more
	node  atomic.Pointer[xds.Node] // the machine's, once the first request has come
}

// inbox is what the goroutine that receives hands to the one that owns the stream.
type inbox[R any] struct {
	requests chan *R // closed at the end
	err      error   // why; set before requests is closed
}

// serve runs the stream in the calling goroutine, the owner, until it ends; returning is what makes gRPC end the stream.
func serve[R any](st *stream, gs grpc.ServerStream, take func(*R, time.Time) ([]*response, error)) error {
	err := run(st, gs, take)
	close(st.ended)
	st.s.remove(st)
	st.m.close(reason(err), time.Now())
	return err
}

func run[R any](st *stream, gs grpc.ServerStream, take func(*R, time.Time) ([]*response, error)) error {
	m, ctx := st.m, gs.Context()
	in := &inbox[R]{requests: make(chan *R)}
	go in.fill(gs)

	var (
		out   []*response // waits to be sent; while there is any, nothing is taken in, so that wake-ups coalesce
		send  sender
		alarm *time.Timer // nil until it is needed
	)
	for {
		for len(out) > 0 && !send.busy() {
			if err := send.start(gs, out[0], m.env.limits.cutOff); err != nil {
				return err
			}
			out = out[1:]
		}
		var (
			requests <-chan *R
			signal   <-chan struct{}
			timer    <-chan time.Time
		)
		if !send.busy() {
			requests, signal = in.requests, m.box.Signal()
			timer = arm(&alarm, m.next())
		}
		var err error
		select {
		case req, ok := <-requests:
			if !ok {
				return in.err
			}
			m.env.counters.requests.Add(1)
			out, err = take(req, time.Now())
			if st.node.Load() == nil && m.node.ID != "" {
				node := m.node
				st.node.Store(&node)
			}
		case <-signal:
			out = m.changed(m.box.Take(), time.Now())
		case <-timer:
			out = m.timer(time.Now())
		case err = <-send.done:
			send.end()
		case <-send.late:
			m.env.counters.cutOff.Add(1)
			err = status.Errorf(codes.DeadlineExceeded, "the node has not read what it was sent for %v: reconnect", m.env.limits.cutOff)
		case f := <-st.query:
			f()
		case <-st.s.draining:
			err = errDraining
		case <-ctx.Done():
			err = status.FromContextError(ctx.Err()).Err()
		}
		if err != nil {
			return err
		}
	}
}

// fill receives until the stream ends.
func (in *inbox[R]) fill(gs grpc.ServerStream) {
	defer close(in.requests)
	for {
		req := new(R)
		if err := gs.RecvMsg(req); err != nil {
			if !errors.Is(err, io.EOF) { // the peer closing its side is a good end
				in.err = err
			}
			return
		}
		select {
		case in.requests <- req:
		case <-gs.Context().Done():
			in.err = status.FromContextError(gs.Context().Err()).Err()
			return
		}
	}
}

// sender sends one response at a time. Where the transport might block, a goroutine waits for it, so that the owner can still
// give up: leaving the handler is the only way to end a SendMsg.
type sender struct {
	done  chan error // nil: not busy
	late  <-chan time.Time
	timer *time.Timer
}

func (s *sender) busy() bool { return s.done != nil }

func (s *sender) start(gs grpc.ServerStream, r *response, limit time.Duration) error {
	if r.prompt {
		return gs.SendMsg(r)
	}
	done := make(chan error, 1)
	go func() { done <- gs.SendMsg(r) }()
	s.done, s.timer = done, time.NewTimer(limit)
	s.late = s.timer.C
	return nil
}

func (s *sender) end() {
	s.timer.Stop()
	*s = sender{}
}

// arm sets *t to fire at when and returns its channel; nil if when is zero.
func arm(t **time.Timer, when time.Time) <-chan time.Time {
	switch {
	case when.IsZero():
		if *t != nil {
			(*t).Stop()
		}
		return nil
	case *t == nil:
		*t = time.NewTimer(time.Until(when))
	default:
		(*t).Reset(time.Until(when))
	}
	return (*t).C
}

// reason is why a stream ended, in words for people.
func reason(err error) string {
	switch {
	case err == nil:
		return "the node closed the stream"
	case errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled:
		return "the connection was lost, or the node cancelled the stream"
	}
	return status.Convert(err).Message()
}
