package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// Durations are the histograms. What they count is reported as it happens, by any goroutine. No
// label is a host or a node.
type Durations struct {
	phases  *prometheus.HistogramVec
	calls   *prometheus.HistogramVec
	pushed  *prometheus.HistogramVec
	ring    prometheus.Observer
	cert    prometheus.Observer
	lookups prometheus.Histogram
}

// NewDurations returns histograms that have counted nothing.
func NewDurations() *Durations {
	d := &Durations{
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lockstep_rotation_phase_duration_seconds",
			Help:    "How long phases of rotations took that ended. draining is how long a key still decrypted.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 75, 300, 1800, 7200, 43200, 172800},
		}, []string{"scope", "phase"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lockstep_store_call_seconds",
			Help:    "How long calls of the store took, failed ones included, by kind.",
			Buckets: []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"call"}),
		pushed: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "lockstep_push_ack_seconds",
			Help:    "From sending a secret to a node until it accepted it.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30},
		}, []string{"kind"}),
		lookups: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lockstep_on_demand_lookup_seconds",
			Help: "From a node asking for a certificate on demand until it was sent. " +
				"Those that do not exist do not count.",
			Buckets: []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10},
		}),
	}
	d.ring, d.cert = d.pushed.WithLabelValues("ring"), d.pushed.WithLabelValues("certificate")
	return d
}

func (d *Durations) collectors() []prometheus.Collector {
	return []prometheus.Collector{d.phases, d.calls, d.pushed, d.lookups}
}

// Store counts a call of the store, of a kind of guard.Ops.
func (d *Durations) Store(op string, took time.Duration) {
	d.calls.WithLabelValues(op).Observe(took.Seconds())
}

// Observe counts what an event says of a duration.
func (d *Durations) Observe(e xds.Event) {
	switch {
	case e.Type != sds.TypeURL:
	case e.Kind == xds.Accepted && e.Took > 0:
		if _, ring := keysource.RingScope(e.Name); ring {
			d.ring.Observe(e.Took.Seconds())
		} else {
			d.cert.Observe(e.Took.Seconds())
		}
	case e.First:
		if _, ring := keysource.RingScope(e.Name); !ring {
			d.lookups.Observe(e.Took.Seconds())
		}
	}
}

// Rotation counts the phase that ended with a line of a scope's history.
func (d *Durations) Rotation(scope string, l rotation.Line) {
	if phase, ok := ended[l.What]; ok && l.Took > 0 {
		d.phases.WithLabelValues(scope, phase).Observe(l.Took.Seconds())
	}
}

// ended is the phase that ends with a line.
var ended = map[rotation.LineKind]string{
	"promoting":          string(rotation.Distributing),
	"taken-back":         "taken back",
	rotation.LineDone:    string(rotation.Promoting),
	rotation.LineBurnt:   string(rotation.Burning),
	rotation.LineRetired: "draining",
}
