package listeners

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/xds"
)

// A node whose stream has ended goes on serving what it took: it is said to until it is back, or
// its lease has ended.
func TestANodeThatIsAwayGoesOnServingItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Listeners{lease: time.Minute, nodes: map[uint64]admin.Listening{}, away: map[string]away{}}
		says := func(want ...admin.Listening) {
			t.Helper()
			if got := l.serving(); !slices.Equal(got, want) {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		at := func(kind xds.Kind, stream uint64, version string) {
			l.Observe(xds.Event{Kind: kind, Node: xds.Node{ID: "edge", Stream: stream}, Version: version})
		}
		at(xds.Asked, 1, "")
		at(xds.Closed, 1, "")
		says() // it took nothing
		at(xds.Asked, 2, "")
		at(xds.Accepted, 2, "v1")
		at(xds.Closed, 2, "")
		says(admin.Listening{Node: "edge", Version: "v1", Away: true})
		at(xds.Asked, 3, "v1")
		says(admin.Listening{Node: "edge", Version: "v1"})
		at(xds.Closed, 3, "")
		time.Sleep(time.Minute)
		says()
		for i := range maxAway + 10 {
			l.Observe(xds.Event{Kind: xds.Accepted, Node: xds.Node{ID: fmt.Sprint(i), Stream: 9}, Version: "v"})
			l.Observe(xds.Event{Kind: xds.Closed, Node: xds.Node{ID: fmt.Sprint(i), Stream: 9}})
		}
		if len(l.away) != maxAway {
			t.Errorf("%d are remembered", len(l.away))
		}
	})
}
