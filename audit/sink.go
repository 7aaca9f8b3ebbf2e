package audit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// sink holds a chain. write is called by one goroutine at a time. It appends the batch, as
// durable as the sink can make it, and returns the head after each entry. After an error the
// batch may be there or not, and the next call must find out.
type sink interface {
	write(ctx context.Context, b batch) ([]Head, error)
}

// bounded is a sink that cannot hold up anybody. A write that takes too long is given up, and the
// sink is busy until that write returns.
type bounded struct {
	name  string
	chain string
	sink  sink
	busy  chan struct{} // capacity 1
	last  *attempt      // last may have been taken. It belongs to the user of the sink.

	// pause and until belong to the holder of turn; see rest.
	pause time.Duration
	until time.Time
}

// maxPause bounds how long a sink that takes too long is not told of what it lacks.
const maxPause = 8 * time.Second

// errBusy says that a write was not even begun.
var errBusy = errors.New("an earlier write still hangs")

// rest notes how a write ended. One that took too long may have left its lines there. So a sink
// that is slow is told of what it lacks more and more rarely, until it takes lines in time.
func (s *bounded) rest(err error) {
	switch {
	case err == nil:
		s.pause, s.until = 0, time.Time{}
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errBusy):
		s.pause = min(max(2*s.pause, lookEvery), maxPause)
		s.until = time.Now().Add(s.pause)
	}
}

// rests reports whether the sink is not to be told now.
func (s *bounded) rests() bool { return time.Now().Before(s.until) }

func newBounded(name, chain string, s sink) *bounded {
	return &bounded{name: name, chain: chain, sink: s, busy: make(chan struct{}, 1)}
}

// use calls f when nobody else uses the sink.
func (s *bounded) use(ctx context.Context, f func(context.Context) ([]Head, error)) ([]Head, error) {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
	return giveUp(ctx, func(ctx context.Context) ([]Head, error) {
		defer func() { <-s.busy }()
		return f(ctx)
	})
}

// giveUp returns what f returns, or the error of ctx if that ends first. Then f goes on alone.
func giveUp[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		v, err := f(ctx)
		done <- outcome{v, err}
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("no answer: %w", ctx.Err())
	}
}
