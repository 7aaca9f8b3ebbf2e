package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

// TestNetwork: what is cut is cut, in the direction that was asked for, and silently; what was not
// goes on.
func TestNetwork(t *testing.T) {
	if !Secluded(t) {
		return
	}
	f := ForTest(t)
	own, boxes, n, err := f.Network("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	a, b := boxes[0], boxes[1]
	l, err := net.Listen("tcp", own.IP+":20000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reaches := func(from *Box) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := f.In(from).Run(ctx, "/bin/bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/20000", own.IP))
		if err != nil && ctx.Err() == nil {
			t.Errorf("%s was told that there is no way: %v", from.Name, err)
		}
		return err == nil
	}
	check := func(when string, fromA, fromB bool) {
		t.Helper()
		if gotA, gotB := reaches(a), reaches(b); gotA != fromA || gotB != fromB {
			t.Errorf("%s: reached from a %v, from b %v; want %v, %v", when, gotA, gotB, fromA, fromB)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("at first", true, true)
	do(n.Drop(a, own))
	check("one way cut", false, true)
	do(n.Pass(a, own))
	do(n.Drop(own, b))
	check("the other way cut", true, false)
	do(n.Pass(own, b))
	do(n.Cut(a, b))
	check("a and b apart", true, true)
	do(n.Join(a, b))
	do(n.Cut(own, a))
	check("cut", false, true)
	do(n.Join(own, a))
	do(n.Unplug(b))
	check("unplugged", true, false)
	do(n.Plug(b))
	soon(t, func() error { // the kernel takes up to a second to see it
		if !reaches(b) {
			return errors.New("b does not reach us")
		}
		return nil
	})
	check("at last", true, true)
}
