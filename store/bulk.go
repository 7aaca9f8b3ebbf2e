package store

import (
	"context"
	"iter"
	"sync"
)

// Bulk is what a [Store] may offer besides: the same contract for many keys at once. [GetAll], [SwapAll] and [KeysAfter] use it, and do without
// where a store has it not; a wrapper of a store offers it and passes it on by them.
type Bulk interface {
	// GetAll is Get of each key: a value for each, in their order.
	GetAll(ctx context.Context, keys []string) []Value

	// SwapAll is Swap of each change, on its own: an outcome for each, in their order. One that conflicts or fails leaves the others alone; of two
	// of the same key, the first is made first. As with Swap, after an error other than ErrConflict the outcome of that change is unknown.
	SwapAll(ctx context.Context, changes []Change) []Outcome

	// KeysAfter is Keys of those that come after last in byte order; its cost does not grow with those before.
	KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error]
}

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

// MaxBulk is how many keys GetAll and SwapAll take in one go: what a driver does as one transaction or script holds others up so long.
const MaxBulk = 1024

// One in it for each single call of the process that stands in for a batch: a store over the network answers many in the time of one. But one that syncs
// each write makes one after the other, and a single change, of a rotation, waits for those before it.
var (
	reads  = make(chan struct{}, 64)
	writes = make(chan struct{}, 16)
)

// GetAll reads many keys; see [Bulk].
func GetAll(ctx context.Context, s Store, keys []string) []Value {
	out := make([]Value, 0, len(keys))
	b, ok := s.(Bulk)
	if !ok {
		out = out[:len(keys)]
		eachOf(reads, len(keys), func(i int) { out[i].Val, out[i].Rev, out[i].Err = s.Get(ctx, keys[i]) })
		return out
	}
	for len(keys) > 0 {
		n := min(len(keys), MaxBulk)
		out = append(out, b.GetAll(ctx, keys[:n])...)
		keys = keys[n:]
	}
	return out
}

// SwapAll makes many changes; see [Bulk]. It is no transaction: of more than [MaxBulk] some may be seen before others, and after a crash some may
// be there and others not.
func SwapAll(ctx context.Context, s Store, changes []Change) []Outcome {
	out := make([]Outcome, 0, len(changes))
	b, ok := s.(Bulk)
	if !ok {
		return swapEach(ctx, s, changes)
	}
	for len(changes) > 0 {
		n := min(len(changes), MaxBulk)
		out = append(out, b.SwapAll(ctx, changes[:n])...)
		changes = changes[n:]
	}
	return out
}

// swapEach makes changes one by one, those of the same key in their order.
func swapEach(ctx context.Context, s Store, changes []Change) []Outcome {
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
			out[round[i]].Rev, out[round[i]].Err = s.Swap(ctx, c.Key, c.Old, c.Val)
		})
	}
	return out
}

// KeysAfter yields the keys under prefix that come after last; see [Bulk]. Where the store has no such thing it costs as much as all of them.
func KeysAfter(ctx context.Context, s Store, prefix, last string) iter.Seq2[string, error] {
	if b, ok := s.(Bulk); ok {
		return b.KeysAfter(ctx, prefix, last)
	}
	return func(yield func(string, error) bool) {
		for key, err := range s.Keys(ctx, prefix) {
			if err == nil && key <= last {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
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
