package fleet

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestSegment: the boxes reach each other, an address is found where it is added, and who is
// unplugged is reached by nobody.
func TestSegment(t *testing.T) {
	if !Secluded(t) {
		return
	}
	f := ForTest(t)
	own, boxes, s, err := f.Segment("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	a, b := boxes[0], boxes[1]
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Nobody listens there: who is told so has reached it.
	reaches := func(from *Box, ip string) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := f.In(from).Run(ctx, "/bin/bash", "-c", "exec 3<>/dev/tcp/"+ip+"/20000")
		return err != nil && strings.Contains(err.Error(), "Connection refused")
	}
	check := func(when string, from *Box, ip string, want bool) {
		t.Helper()
		if got := reaches(from, ip); got != want {
			t.Errorf("%s: from %s to %s: %v, want %v", when, from.Name, ip, got, want)
		}
	}
	check("at first", a, b.IP, true)
	check("at first", own, a.IP, true)
	check("at first", b, own.IP, true)
	check("before it is anywhere", own, s.Spare(), false)
	do(b.ip("address", "add", s.Spare()+"/24", "dev", "eth0"))
	check("when b has it", a, s.Spare(), true)
	do(s.Unplug(b))
	check("unplugged", own, b.IP, false)
	check("unplugged", a, s.Spare(), false)
	check("the other", own, a.IP, true)
	do(s.Plug(b))
	soon(t, func() error {
		if !reaches(own, b.IP) {
			return context.DeadlineExceeded
		}
		return nil
	})
	check("plugged in", a, s.Spare(), true)
}
