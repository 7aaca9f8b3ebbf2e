package store

import (
	"context"
	"iter"
	"sync"
)

// Value is what Get returns.
type Value struct {
	Val []byte
	Rev Rev
	Err error
}

// Change is what Swap takes.
type Change struct {
	Key string
	Old Rev
	Val []byte // nil deletes
}

// Outcome is what Swap returns.
type Outcome struct {
	Rev Rev
	Err error
}

// MaxBulk is how many keys a store takes in one call. A driver that makes them one transaction or
// script holds others up for so long.
const MaxBulk = 1024

// GetAll reads any number of keys, in calls of at most [MaxBulk].
func GetAll(ctx context.Context, s Store, keys []string) []Value {
	out := make([]Value, 0, len(keys))
	for len(keys) > 0 {
		n := min(len(keys), MaxBulk)
		out = append(out, s.GetAll(ctx, keys[:n])...)
		keys = keys[n:]
	}
	return out
}

// SwapAll makes any number of changes, in calls of at most [MaxBulk]. It is no transaction: some
// may be seen before others, and after a crash some may be there and others not.
func SwapAll(ctx context.Context, s Store, changes []Change) []Outcome {
	out := make([]Outcome, 0, len(changes))
	for len(changes) > 0 {
		n := min(len(changes), MaxBulk)
		out = append(out, s.SwapAll(ctx, changes[:n])...)
		changes = changes[n:]
	}
	return out
}

// OneByOne makes the whole contract of the calls for one key. It is for a driver that has no faster
// way to do many. What s has besides [Single] is not used, but for Recreate.
func OneByOne(s Single) Store { return oneByOne{s} }

type oneByOne struct{ Single }

// The gates bound how many single calls of the process stand in for batches at once. A store over
// the network answers many in the time of one. But a store that syncs each write makes one after
// the other, and a single change, of a rotation, waits for those before it.
var (
	reads  = make(chan struct{}, 64)
	writes = make(chan struct{}, 16)
)

// GetAll implements [Store].
func (o oneByOne) GetAll(ctx context.Context, keys []string) []Value {
	out := make([]Value, len(keys))
	eachOf(reads, len(keys), func(i int) { out[i].Val, out[i].Rev, out[i].Err = o.Get(ctx, keys[i]) })
	return out
}

// SwapAll implements [Store]. Changes of the same key are made in their order.
func (o oneByOne) SwapAll(ctx context.Context, changes []Change) []Outcome {
	out := make([]Outcome, len(changes))
	var rounds [][]int
	times := make(map[string]int, len(changes))
	for i, c := range changes {
		n := times[c.Key]
		times[c.Key]++
		if n == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[n] = append(rounds[n], i)
	}
	for _, round := range rounds {
		eachOf(writes, len(round), func(i int) {
			c := changes[round[i]]
			out[round[i]].Rev, out[round[i]].Err = o.Swap(ctx, c.Key, c.Old, c.Val)
		})
	}
	return out
}

// KeysAfter implements [Store]. It costs as much as all keys under prefix.
func (o oneByOne) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range o.Keys(ctx, prefix) {
			if err == nil && key <= last {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

// Recreate implements [Store].
func (o oneByOne) Recreate(ctx context.Context) error {
	if r, ok := o.Single.(interface{ Recreate(context.Context) error }); ok {
		return r.Recreate(ctx)
	}
	return ctx.Err()
}

// eachOf calls f for 0 to n-1, as many at the same time as gate lets in.
func eachOf(gate chan struct{}, n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		gate <- struct{}{}
		wg.Go(func() {
			f(i)
			<-gate
		})
	}
	wg.Wait()
}
