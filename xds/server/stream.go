package server

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// stream is the shell around a machine. It has one goroutine, gRPC's own, which receives; whoever holds mu owns the machine and sends: that
// goroutine with a request, a pusher ([pushers]) with changed names, the timer. So an idle stream costs one parked goroutine, and a push none.
//
// Nothing under mu blocks: responses of which the transport might make us wait are sent by a goroutine of their own, one at a time.
type stream struct {
	s     *Server
	gs    grpc.ServerStream
	since time.Time
	abort context.CancelFunc // ends the gRPC stream, and with it whatever waits for it

	mu      sync.Mutex
	m       *machine
	out     []*response // waits to be sent
	sending bool        // a goroutine waits for the transport to take a response
	err     error       // why the stream is to end
	over    bool
	alarm   *time.Timer // nil until it is needed
}

// serve runs the stream in the calling goroutine until it ends; returning is what makes gRPC end the stream.
func serve[R any](st *stream, take func(*R, time.Time) ([]*response, error)) error {
	err := receive(st, take)
	st.mu.Lock()
	if st.err != nil { // what ended it, not what that looked like from within RecvMsg
		err = st.err
	}
	st.over = true
	if st.alarm != nil {
		st.alarm.Stop()
	}
	st.m.close(reason(err), time.Now())
	st.mu.Unlock()
	st.s.remove(st)
	st.abort()
	return err
}

func receive[R any](st *stream, take func(*R, time.Time) ([]*response, error)) error {
	for {
		req := new(R)
		if err := st.gs.RecvMsg(req); err != nil {
			if errors.Is(err, io.EOF) { // the peer closing its side is a good end
				return nil
			}
			return err
		}
		st.m.env.counters.requests.Add(1)
		if err := st.do(func(now time.Time) ([]*response, error) { return take(req, now) }); err != nil {
			return err
		}
	}
}

// do lets f have the machine, and sends what it answers.
func (st *stream) do(f func(time.Time) ([]*response, error)) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over || st.err != nil {
		return st.err
	}
	out, err := f(time.Now())
	if err != nil {
		return err
	}
	st.out = append(st.out, out...)
	st.pump()
	st.arm()
	return st.err
}

// push answers what is in the mailbox. While a send is under way names wait there, so that they coalesce.
func (st *stream) push() {
	_ = st.do(func(now time.Time) ([]*response, error) { // its error has ended the stream already
		if st.sending {
			return nil, nil
		}
		return st.m.changed(st.m.box.Take(), now), nil
	})
}

// pump sends what waits. The caller holds mu.
func (st *stream) pump() {
	for len(st.out) > 0 && !st.sending && st.err == nil {
		r := st.out[0]
		if st.out = st.out[1:]; len(st.out) == 0 {
			st.out = nil
		}
		if !r.prompt {
			st.sending = true
			go st.await(r)
			return
		}
		if err := st.gs.SendMsg(r); err != nil {
			st.fail(err)
		}
	}
}

// await sends one response of which the transport may make it wait, and goes on with the rest. A peer that does not take it in time is cut off.
func (st *stream) await(r *response) {
	late := time.AfterFunc(st.m.env.limits.cutOff, func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.sending && !st.over {
			st.m.env.counters.cutOff.Add(1)
			st.fail(status.Errorf(codes.DeadlineExceeded, "the node has not read what it was sent for %v: reconnect", st.m.env.limits.cutOff))
		}
	})
	err := st.gs.SendMsg(r)
	late.Stop()
	st.mu.Lock()
	st.sending = false
	if err != nil {
		st.fail(err)
	}
	st.mu.Unlock()
	st.push() // and what waits in out before it
}

// fail ends the stream. The caller holds mu.
func (st *stream) fail(err error) {
	if st.err == nil {
		st.err = err
		st.abort()
	}
}

// end ends the stream from outside.
func (st *stream) end(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.fail(err)
}

// arm sets the timer to when the machine wants to be called. The caller holds mu.
func (st *stream) arm() {
	when := st.m.next()
	switch {
	case when.IsZero():
		if st.alarm != nil {
			st.alarm.Stop()
		}
	case st.alarm == nil:
		st.alarm = time.AfterFunc(time.Until(when), st.ring)
	default:
		st.alarm.Reset(time.Until(when))
	}
}

func (st *stream) ring() {
	_ = st.do(func(now time.Time) ([]*response, error) { return st.m.timer(now), nil })
}

// cancelKey is where a stream's context holds what ends it.
type cancelKey struct{}

// cancellable is gRPC's tap: it gives each stream a context that we can end. A handler that waits in RecvMsg cannot be woken otherwise.
func cancellable(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	return context.WithValue(ctx, cancelKey{}, cancel), nil
}

// canceller is what ends the stream of ctx, or an error where the gRPC server was not made with [Options].
func canceller(ctx context.Context) (context.CancelFunc, error) {
	cancel, ok := ctx.Value(cancelKey{}).(context.CancelFunc)
	if !ok {
		return nil, status.Error(codes.Internal, "xds/server: the gRPC server was not made with Options")
	}
	return cancel, nil
}

// pushers answer woken streams: a few goroutines that come when there is work and go when there is none.
type pushers struct {
	mu      sync.Mutex
	streams []*stream
	at      int // of streams, the next
	working int
	most    int
}

func (p *pushers) add(st *stream) {
	p.mu.Lock()
	p.streams = append(p.streams, st)
	start := p.working < p.most
	if start {
		p.working++
	}
	p.mu.Unlock()
	if start {
		go p.work()
	}
}

func (p *pushers) work() {
	for {
		p.mu.Lock()
		if p.at == len(p.streams) {
			p.streams, p.at = nil, 0
			p.working--
			p.mu.Unlock()
			return
		}
		st := p.streams[p.at]
		p.streams[p.at] = nil
		p.at++
		p.mu.Unlock()
		st.push()
		runtime.Gosched() // the transport's writer of this stream next, while it is still in the cache
	}
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
