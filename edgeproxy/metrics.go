package edgeproxy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the proxy's metrics.
type metrics struct {
	requests *prometheus.CounterVec
	ok       prometheus.Counter // requests with status 200
	seconds  prometheus.Histogram
	failed   *prometheus.CounterVec
	full     prometheus.Counter
	resumed  prometheus.Counter
	early    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_edge_requests_total", Help: "Requests that ended, by status.",
		}, []string{"status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lockstep_edge_request_seconds", Help: "From a request's header to the end of its response.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_edge_handshakes_failed_total", Help: "TLS handshakes that failed.",
		}, []string{"reason"}),
		full: prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstep_edge_handshakes_full_total",
			Help: "TLS handshakes that resumed nothing."}),
		resumed: prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstep_edge_handshakes_resumed_total",
			Help: "TLS handshakes that resumed a session."}),
		early: prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstep_edge_early_data_offers_total",
			Help: "TLS handshakes in which the client offered early data (0-RTT), by a ticket of another server."}),
	}
	m.ok = m.requests.WithLabelValues("200")
	for r := range reasons {
		m.failed.WithLabelValues(r.String())
	}
	r.MustRegister(m.requests, m.seconds, m.failed, m.full, m.resumed, m.early)
	return m
}

func (m *metrics) request(status int, took time.Duration) {
	if status == http.StatusOK {
		m.ok.Inc()
	} else {
		m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	m.seconds.Observe(took.Seconds())
}

func (m *metrics) handshake(resumed bool) {
	if resumed {
		m.resumed.Inc()
	} else {
		m.full.Inc()
	}
}
