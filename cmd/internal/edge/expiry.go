package edge

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-tls/lockstep/internal/expiry"
)

// expiryEvery is how often the files of these certificates are read to see when they end.
const expiryEvery = 10 * time.Second

// ownFile is a file with certificates whose end matters to this edge.
type ownFile struct {
	key, what, path string
	most            int
}

// ownFiles returns the files that the configuration names, each once.
func (c Config) ownFiles() (all []ownFile) {
	if c.XDSCert != "" {
		all = append(all, ownFile{"xds_cert", "this edge's own certificate", c.XDSCert, 1},
			ownFile{"xds_ca", "the CA of the control plane", c.XDSCA, 20})
	}
	for i, r := range c.Routes {
		known := func(f ownFile) bool { return f.path == r.UpstreamCert }
		if r.UpstreamCert != "" && !slices.ContainsFunc(all, known) {
			all = append(all, ownFile{fmt.Sprintf("routes[%d].upstream_cert", i), "the certificate for upstreams",
				r.UpstreamCert, 1})
		}
	}
	return all
}

// own returns this edge's certificates, and the CAs of the control plane, as the files are now.
func (c Config) own() (all []expiry.Certificate) {
	for _, f := range c.ownFiles() {
		text, err := os.ReadFile(f.path)
		if err != nil {
			continue // a connection says so
		}
		for i, crt := range expiry.Parse(text) {
			if i == f.most {
				break // what follows the own certificate is its chain
			}
			name := ""
			switch {
			case len(crt.URIs) > 0:
				name = crt.URIs[0].String()
			case len(crt.DNSNames) > 0:
				name = crt.DNSNames[0]
			}
			all = append(all, expiry.Certificate{
				What: f.what, File: f.path, Name: cmp.Or(name, crt.Subject.String()), Span: expiry.SpanOf(crt),
			})
		}
	}
	return all
}

// watchExpiry logs when they end, and when they are near it. A connection that stays open does not
// notice.
func (e *Edge) watchExpiry(ctx context.Context) {
	if len(e.cfg.ownFiles()) > 0 {
		expiry.Watch(ctx, e.cfg.own, expiryEvery, e.log)
	}
}

// measureExpiry adds the metrics of what own returns.
func (e *Edge) measureExpiry() {
	if len(e.cfg.ownFiles()) == 0 {
		return
	}
	e.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_edge_own_certificate_expiry_seconds",
			Help: "Seconds until the first of xds_cert, the CAs of xds_ca and each upstream_cert expires."},
			func() float64 {
				var first time.Time
				for _, c := range e.cfg.own() {
					if first.IsZero() || c.NotAfter.Before(first) {
						first = c.NotAfter
					}
				}
				return time.Until(first).Seconds()
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_edge_own_certificate_near_end",
			Help: "1 while one of these has 30 days or a third of its lifetime left, or has expired."},
			func() float64 {
				for _, c := range e.cfg.own() {
					if c.State(expiry.Proof, time.Now()) != expiry.Good {
						return 1
					}
				}
				return 0
			}),
	)
}
