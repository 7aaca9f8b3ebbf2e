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

// stream is the shell around a machine. It has one goroutine, gRPC's own, which receives. Whoever
// holds mu owns the machine and sends: that goroutine with a request, a pusher ([pushers]) with
// changed names, or the timer. So an idle stream costs one parked goroutine, and a push costs
// none.
//
// Nothing under mu blocks. A response for which the transport might block is sent by a goroutine
// of its own, one at a time.
type stream struct {
	s     *Server
	gs    grpc.ServerStream
	since time.Time
	abort context.CancelFunc // ends the gRPC stream, and whatever waits for it

	mu      sync.Mutex
	m       *machine
	out     []*response // responses that wait to be sent
	sending bool        // a goroutine waits for the transport to take a response
	err     error       // why the stream is to end
	ended   bool
	timer   *time.Timer // nil until it is needed
}

// serve runs the stream in the calling goroutine until it ends. gRPC ends the stream when serve
// returns.
func serve[R any](st *stream, take func(*R, time.Time) ([]*response, error)) error {
	err := receive(st, take)
	st.mu.Lock()
	if st.err != nil { // the cause, not how it looked from RecvMsg
		err = st.err
	}
	st.ended = true
	if st.timer != nil {
		st.timer.Stop()
	}
	st.m.close(reason(err), time.Now())
	st.mu.Unlock()
	st.s.remove(st)
	st.abort()
	return err
}

// receive handles requests until the stream ends.
func receive[R any](st *stream, take func(*R, time.Time) ([]*response, error)) error {
	for {
		req := new(R)
		if err := st.gs.RecvMsg(req); err != nil {
			if errors.Is(err, io.EOF) { // the peer closed its side, which is no error
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

// do calls f while it owns the machine, and sends what f returns.
func (st *stream) do(f func(time.Time) ([]*response, error)) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended || st.err != nil {
		return st.err
	}
	out, err := f(time.Now())
	if err != nil {
		return err
	}
	st.out = append(st.out, out...)
	st.sendWaiting()
	st.setTimer()
	return st.err
}

// push answers the names in the mailbox. While a send is under way they stay there, so that they
// coalesce.
func (st *stream) push() {
	_ = st.do(func(now time.Time) ([]*response, error) { // an error has ended the stream already
		if st.sending {
			return nil, nil
		}
		return st.m.changed(st.m.mailbox.Take(), now), nil
	})
}

// sendWaiting sends the responses that wait. The caller holds mu.
func (st *stream) sendWaiting() {
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

// await sends one response for which the transport may block, and then the rest. A peer that does
// not read it in time is cut off.
func (st *stream) await(r *response) {
	late := time.AfterFunc(st.m.env.limits.cutOff, func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.sending && !st.ended {
			st.m.env.counters.cutOff.Add(1)
			st.fail(status.Errorf(codes.DeadlineExceeded, "the node has not read what it was sent for %v: reconnect",
				st.m.env.limits.cutOff))
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
	st.push() // this also sends what waits in out
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

// setTimer sets the timer to when the machine is to be called. The caller holds mu.
func (st *stream) setTimer() {
	when := st.m.next()
	switch {
	case when.IsZero():
		if st.timer != nil {
			st.timer.Stop()
		}
	case st.timer == nil:
		st.timer = time.AfterFunc(time.Until(when), st.onTimer)
	default:
		st.timer.Reset(time.Until(when))
	}
}

// onTimer calls the machine when the timer fires.
func (st *stream) onTimer() {
	_ = st.do(func(now time.Time) ([]*response, error) { return st.m.timer(now), nil })
}

// cancelKey is the key under which a stream's context holds its cancel function.
type cancelKey struct{}

// cancellable is gRPC's tap handle. It gives each stream a context that the server can end. A
// handler that waits in RecvMsg cannot be woken otherwise.
func cancellable(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	return context.WithValue(ctx, cancelKey{}, cancel), nil
}

// canceller returns the function that ends the stream of ctx. It fails if the gRPC server was not
// made with [Options].
func canceller(ctx context.Context) (context.CancelFunc, error) {
	cancel, ok := ctx.Value(cancelKey{}).(context.CancelFunc)
	if !ok {
		return nil, status.Error(codes.Internal, "xds/server: the gRPC server was not made with Options")
	}
	return cancel, nil
}

// pushers answer the streams that were woken. They are a few goroutines, which start when there is
// work and end when there is none.
type pushers struct {
	mu      sync.Mutex
	streams []*stream
	at      int // index of the next of streams
	working int
	limit   int
}

// add queues st, and starts a goroutine if fewer than limit work.
func (p *pushers) add(st *stream) {
	p.mu.Lock()
	p.streams = append(p.streams, st)
	start := p.working < p.limit
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
		// The transport's writer of this stream runs next, while its data is in the cache.
		runtime.Gosched()
	}
}

// reason says for people why a stream ended.
func reason(err error) string {
	switch {
	case err == nil:
		return "the node closed the stream"
	case errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled:
		return "the connection was lost, or the node cancelled the stream"
	}
	return status.Convert(err).Message()
}
