package admin

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// A node that fetches certificates on demand asks for each name that a client makes up. To look at
// it must not take what grows with the square of their number.
func TestNamesThatClientsMakeUpDoNotFillTheViewOfANode(t *testing.T) {
	s := server.StreamView{Node: xds.Node{ID: "envoy-1", Service: xds.ADS, Stream: 1}, Since: time.Now()}
	for i := range 5000 {
		s.Names = append(s.Names, server.NameView{Type: sds.TypeURL, Name: fmt.Sprintf("made-up-%d.example", i),
			NameState: server.NameState{Known: xds.Absent}})
	}
	for _, most := range []int{maxAbsent, maxAbsentOfOne} {
		f := (&admin{cfg: Config{Prover: new(sds.Prover)}}).fleet()
		f.absent.most = most
		f.stream(s)
		if n := f.loose["envoy-1"]; len(n.Secrets) != most || n.Secrets[0].State != stateAbsent {
			t.Errorf("%d secrets, want %d", len(n.Secrets), most)
		}
	}
	a := absent{most: maxAbsentOfOne, shown: map[*api.Node]int{}}
	one, other := new(api.Node), new(api.Node)
	for range 2 * maxAbsentOfOne {
		a.takes(one)
	}
	if a.takes(one) || !a.takes(other) {
		t.Error("what one node shows counts for another")
	}
}
