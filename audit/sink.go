package audit

import (
	"context"
	"fmt"
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
}

func newBounded(name, chain string, s sink) *bounded {
	return &bounded{name, chain, s, make(chan struct{}, 1)}
}

func (s *bounded) write(ctx context.Context, b batch) ([]Head, error) {
	return s.use(ctx, func(ctx context.Context) ([]Head, error) { return s.sink.write(ctx, b) })
}

// use calls f when nobody else uses the sink.
func (s *bounded) use(ctx context.Context, f func(context.Context) ([]Head, error)) ([]Head, error) {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("an earlier write still hangs: %w", ctx.Err())
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
