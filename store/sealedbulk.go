package store

import (
	"context"
	"fmt"
	"iter"
)

var _ Bulk = sealed{}

// GetAll implements [Bulk].
func (s sealed) GetAll(ctx context.Context, keys []string) []Value {
	all := GetAll(ctx, s.Store, keys)
	for i, v := range all {
		if v.Err == nil {
			all[i].Val, all[i].Err = s.open(keys[i], v.Val)
		}
	}
	return all
}

// SwapAll implements [Bulk].
func (s sealed) SwapAll(ctx context.Context, changes []Change) []Outcome {
	out := make([]Outcome, len(changes))
	var sealed []Change
	var at []int // where their outcomes belong
	for i, c := range changes {
		if c.Val != nil {
			if c.Val, out[i].Err = s.seal(c.Key, c.Val); out[i].Err != nil {
				continue
			}
		}
		sealed, at = append(sealed, c), append(at, i)
	}
	for i, o := range SwapAll(ctx, s.Store, sealed) {
		out[at[i]] = o
	}
	return out
}

// KeysAfter implements [Bulk].
func (s sealed) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return KeysAfter(ctx, s.Store, prefix, last)
}

func (s sealed) seal(key string, val []byte) ([]byte, error) {
	sealed, err := s.sealer.Seal(val, []byte(key))
	if err != nil {
		return nil, fmt.Errorf("store: sealing %q: %v; nothing was written", key, err)
	}
	return sealed, nil
}

func (s sealed) open(key string, val []byte) ([]byte, error) {
	plain, err := s.sealer.Open(val, []byte(key))
	if err != nil { // %v: whatever the sealer says, the record is there
		return nil, fmt.Errorf("store: record %q %w: is this the sealing key that it was written with? (%v)", key, ErrSealed, err)
	}
	return plain, nil
}
