package rest

import (
	"slices"
	"testing"
)

func TestMemoryIsGivenBackOnceItIsQuiet(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		name  string
		grows []uint64 // bytes allocated in each tick
		at    []int    // ticks at which memory is given back
	}{
		{"nothing happens", make([]uint64, 10), nil},
		{"after a burst", []uint64{20 * mb, 30 * mb, 0, 0, 0, 0, 0}, []int{4}},
		{"not while it goes on", []uint64{20 * mb, 0, 0, 20 * mb, 0, 0, 20 * mb}, nil},
		{"once for each burst", []uint64{20 * mb, 0, 0, 0, 0, 20 * mb, 0, 0, 0, 0}, []int{3, 8}},
		{"small work is quiet, and adds up", slices.Repeat([]uint64{mb}, 17), []int{7, 15}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var l lull
			var allocated uint64
			var at []int
			for i, n := range tc.grows {
				if allocated += n; l.over(allocated) {
					at = append(at, i)
				}
			}
			if !slices.Equal(at, tc.at) {
				t.Errorf("given back at %v, want %v", at, tc.at)
			}
		})
	}
}
