package metrics

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// A node may call itself what it likes, so the versions are bounded, and none is lost.
func TestAtMostTwentyVersionsAreToldApartAndTheRestIsOther(t *testing.T) {
	all := map[server.Agent]int{{Program: "other", Version: "other"}: 1}
	for i := range 50 {
		all[server.Agent{Program: "envoy", Version: fmt.Sprint(i)}] = i + 1
	}
	got := mostFrequent(all)
	sum := 0
	for _, a := range got {
		sum += a.n
	}
	last := got[len(got)-1]
	if len(got) != maxAgents+1 || got[0].n != 50 || last.Program != "other" || sum != 50*51/2+1 {
		t.Errorf("%d, %d in all: %+v", len(got), sum, got)
	}
	few := map[server.Agent]int{{Program: "envoy", Version: "1.40.0"}: 3}
	if got := mostFrequent(few); len(got) != 1 || got[0].n != 3 {
		t.Errorf("%+v", got)
	}
}

// BenchmarkObserve is what the histograms cost each event of a stream.
func BenchmarkObserve(b *testing.B) {
	d := NewDurations()
	e := xds.Event{
		Type: sds.TypeURL, Name: "chain:shop.example", Kind: xds.Accepted, Took: 3 * time.Millisecond,
		At: time.Now(),
	}
	b.ReportAllocs()
	for b.Loop() {
		d.Observe(e)
	}
}
