package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-tls/lockstep/identity/transport"
	"github.com/lockstep-tls/lockstep/internal/expiry"
)

var (
	ownExpiry = desc("own_certificate_expiry_seconds",
		"Seconds until lockstepd's own mTLS certificate expires (own), or the first CA of "+
			"those who may connect (client_ca).", "which")
	ownNear = desc("own_certificate_near_end",
		"1 while lockstepd's own mTLS certificate, or a CA of those who may connect, has 30 days "+
			"or a third of its lifetime left, or has expired.", "which")
	failed = desc("handshakes_failed_total",
		"TLS handshakes that failed. A peer that connects and goes away is counted as closed.", "listener", "reason")
)

// connections are the metrics of who can connect.
func (c collector) connections(
	gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string),
) {
	now := time.Now()
	own := c.c.MTLS.Certificates()
	for what, which := range map[string]string{transport.OwnCertificate: "own", transport.ClientCA: "client_ca"} {
		var first time.Time
		near := false
		for _, o := range own {
			if o.What != what {
				continue
			}
			near = near || o.State(expiry.Proof, now) != expiry.Good
			if first.IsZero() || o.NotAfter.Before(first) {
				first = o.NotAfter
			}
		}
		if !first.IsZero() {
			gauge(ownExpiry, first.Sub(now).Seconds(), which)
			gauge(ownNear, b2f(near), which)
		}
	}
	for listener, counts := range c.c.Failed.Counts() {
		for reason, n := range counts {
			count(failed, n, listener, transport.Reason(reason).String())
		}
	}
}
