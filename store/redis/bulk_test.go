package redis

import (
	"errors"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
)

// A batch is refused as a whole or made as a whole: one script.
func TestABatchIsNeverHalfDone(t *testing.T) {
	r := server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	old := put(t, s, "a/old", 0, "v")
	gone := put(t, s, "a/gone", 0, "v")
	batch := []store.Change{
		{Key: "a/new", Val: []byte("w")}, {Key: "a/old", Old: old, Val: []byte("w")}, {Key: "a/gone", Old: gone},
	}

	do(t, r, "CONFIG SET maxmemory 1mb")
	for _, o := range s.SwapAll(t.Context(), batch) {
		said(t, "SwapAll", o.Err, r.Addr, "memory is full")
	}
	if got := all(t, s, ""); len(got) != 2 {
		t.Errorf("what was refused left %q", got)
	}
	for _, v := range s.GetAll(t.Context(), []string{"a/old", "a/gone"}) {
		if v.Err != nil || string(v.Val) != "v" {
			t.Errorf("GetAll = %+v", v)
		}
	}
	if o := s.SwapAll(t.Context(), batch[2:]); o[0].Err != nil { // a delete makes room
		t.Errorf("a delete: %v", o[0].Err)
	}
	do(t, r, "CONFIG SET maxmemory 0")
	for i, o := range s.SwapAll(t.Context(), batch) {
		if conflict := i == 2; errors.Is(o.Err, store.ErrConflict) != conflict || !conflict && o.Err != nil {
			t.Errorf("%s: %v", batch[i].Key, o.Err)
		}
	}

	do(t, r, "FLUSHALL")
	for _, o := range s.SwapAll(t.Context(), batch[:1]) {
		if !errors.Is(o.Err, store.ErrLost) {
			t.Errorf("SwapAll into an emptied server: %v", o.Err)
		}
	}
	for _, v := range s.GetAll(t.Context(), []string{"a/new"}) {
		if !errors.Is(v.Err, store.ErrLost) || errors.Is(v.Err, store.ErrNotExist) {
			t.Errorf("GetAll of an emptied server: %v", v.Err)
		}
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, o := range s.SwapAll(t.Context(), batch) {
		said(t, "SwapAll", o.Err, r.Addr)
	}
}
