package sds

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// ward is a healer with one node, and what was done for it.
type ward struct {
	*Healer
	done []string
}

func newWard(t *testing.T) (w *ward, stop func()) {
	w = &ward{}
	w.Healer = NewHealer(HealerConfig{
		Renew: func(match func(xds.Node) bool, typeURL string, name func(string) bool) int {
			switch {
			case !match(w.node(xds.SDS)):
			case typeURL != TypeURL:
				w.done = append(w.done, "listener")
			case name("shop.example"):
				w.done = append(w.done, "certificates")
			case name(keysource.RingName("default")):
				w.done = append(w.done, "ring")
			}
			return 0
		},
		Refers:   "listeners",
		Hopeless: func(string) { w.done = append(w.done, "hopeless") },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	return w, func() { cancel(); <-ended }
}

func (w *ward) node(s xds.Service) xds.Node {
	if s == xds.SDS {
		return xds.Node{ID: "edge-1", Stream: 1, Service: s, Kind: xds.KindRing}
	}
	return xds.Node{ID: "edge-1", Stream: 2, Service: s}
}

func (w *ward) ring(k xds.Kind) {
	w.Observe(xds.Event{Node: w.node(xds.SDS), Type: TypeURL, Name: keysource.RingName("default"), Kind: k})
}

func (w *ward) cert(name string, k xds.Kind) {
	w.Observe(xds.Event{Node: w.node(xds.ADS), Type: TypeURL, Name: name, Kind: k})
}

// after demands what was done for the node in the time that passes.
func (w *ward) after(t *testing.T, d time.Duration, want ...string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if !slices.Equal(w.done, want) {
		t.Fatalf("done so far: %v, want %v", w.done, want)
	}
	w.done = nil
}

// TestEachCulpritOfARefusedRingIsFound: Envoy stops at the first chain that it cannot build, and takes any
// certificate for the chains behind it, which have no ring yet. So each culprit shows itself only when the
// one before is cured.
func TestEachCulpritOfARefusedRingIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newWard(t)
		defer stop()
		w.ring(xds.Refused)
		w.cert("zero.example", xds.Refused) // it shows itself
		w.after(t, probeAfter)
		w.cert("zero.example", xds.Cured)
		w.after(t, 0, "ring", "listener")
		w.ring(xds.Refused)
		w.after(t, probeAfter, "certificates")
		for _, name := range []string{"one.example", "two.example", "three.example"} {
			w.cert("good.example", xds.Accepted) // the others are taken, and the ring is tried
			w.after(t, 0, "ring", "listener")
			w.ring(xds.Refused) // the culprit has not answered yet
			w.after(t, probeAfter/2)
			w.cert(name, xds.Refused)
			w.after(t, 2*probeAfter)
			w.cert(name, xds.Cured)
			w.after(t, 0, "ring", "listener")
			w.ring(xds.Refused)
			w.after(t, 0, "certificates")
		}
		w.cert("good.example", xds.Accepted)
		w.after(t, 0, "ring", "listener")
		w.ring(xds.Accepted)
		w.after(t, 10*probeAfter)
	})
}

// TestARingThatIsRefusedWithoutACulpritIsHopeless: certificates were offered again and all taken.
func TestARingThatIsRefusedWithoutACulpritIsHopeless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newWard(t)
		defer stop()
		w.ring(xds.Refused)
		w.after(t, probeAfter, "certificates")
		w.ring(xds.Refused) // the next try
		w.after(t, probeAfter, "hopeless")
		w.ring(xds.Accepted)
		w.ring(xds.Refused) // another time
		w.after(t, probeAfter, "certificates")
	})
}
