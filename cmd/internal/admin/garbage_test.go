package admin

import (
	"runtime/debug"
	"testing"
)

func TestAnImportHasRoomUntilTheLastIsOver(t *testing.T) {
	for _, was := range []int{50, -1} {
		before := debug.SetGCPercent(was)
		defer debug.SetGCPercent(before)
		now := func() int { _, percent := collector(); return percent }
		a := garbage.hold()
		during := now()
		if was < 0 && during != was || was >= 0 && during <= was {
			t.Errorf("%d becomes %d", was, during)
		}
		b := garbage.hold()
		a()
		a() // a second time is none
		if got := now(); (got < 0) != (was < 0) || got >= 0 && got <= was {
			t.Errorf("%d becomes %d when one of two is over", was, got)
		}
		if b(); now() != was {
			t.Errorf("%d is left as %d", was, now())
		}
	}
}

func TestRoomIsBoundedInBytes(t *testing.T) {
	for _, c := range []struct {
		live          uint64
		percent, want int
	}{{0, 50, 3200}, {32 << 20, 50, 400}, {128 << 20, 50, 100}, {256 << 20, 50, 50}, {4 << 30, 50, 50},
		{128 << 20, 300, 300}, {32 << 20, -1, -1}} {
		if got := roomy(c.live, c.percent); got != c.want {
			t.Errorf("%d bytes, %d %%: %d, want %d", c.live, c.percent, got, c.want)
		}
	}
}
