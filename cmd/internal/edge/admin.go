package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lockstep-tls/lockstep/cmd/internal/version"
)

// state is what /readyz answers.
type state string

const (
	starting state = "the control plane has not answered yet"
	ready    state = "ready"
	draining state = "draining"
)

func (e *Edge) become(s state) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != draining {
		e.state = s
	}
}

func (e *Edge) is() state {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == "" {
		return starting
	}
	return e.state
}

// admin serves /metrics, /healthz and /readyz until ctx ends.
func (e *Edge) admin(ctx context.Context) error {
	if e.adminListener == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := e.is()
		if s != ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, s)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelWarn)}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(e.adminListener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin_listen: %w", err)
	}
	return nil
}

// measure adds the metrics that are read when somebody asks for them.
func (e *Edge) measure() {
	e.measureExpiry()
	e.registry.MustRegister(
		version.Metric(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockstep_edge_certificates", Help: "Certificates held."},
			func() float64 { return float64(e.secrets.Held()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockstep_edge_ready", Help: "1 when /readyz says so."},
			func() float64 { return b2f(e.is() == ready) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_edge_control_plane_up", Help: "1 while there is a stream to the control plane."},
			func() float64 { return b2f(e.secrets.Current()) }),
	)
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
