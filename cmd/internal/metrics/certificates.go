package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-tls/lockstep/cmd/internal/expiring"
	"github.com/lockstep-tls/lockstep/internal/expiry"
)

var (
	earliest = desc("certificate_earliest_expiry_seconds",
		"Seconds until the first certificate expires that stands in the directory or in the store, or "+
			"that some node was sent.")
	expires = desc("certificate_expiry_seconds",
		"Seconds until the certificate expires. Only the 100 of directory and store are there that expire first.",
		"name", "source")
	nearEnd = desc("certificates_near_end",
		"Certificates of directory and store that were not renewed in time: 30 days or a quarter of "+
			"their lifetime left (near), three days or a tenth (urgent), or expired.", "state")
	sentNearEnd = desc("certificates_sent_near_end",
		"Certificates that some node was sent and that were not renewed in time, by the same states. They may "+
			"stand in no directory and no store any more.", "state")
	endsKnown = desc("certificate_ends_known",
		"1 once all stored certificates have been looked through for those that end soon.")
)

// certificates are the metrics of what is served.
func (c collector) certificates(gauge func(*prometheus.Desc, float64, ...string)) {
	gauge(watched, float64(c.c.Ledger.Table.Watched()))
	now := time.Now()
	v := expiring.Look(c.c.Dir, c.c.Catalog, now)
	first := c.c.Ledger.Table.Expiry()
	for _, e := range v.Soonest {
		gauge(expires, e.NotAfter.Sub(now).Seconds(), e.Name, e.Source)
		if first.IsZero() || e.NotAfter.Before(first) {
			first = e.NotAfter
		}
	}
	if !first.IsZero() {
		gauge(earliest, first.Sub(now).Seconds())
	}
	gauge(nearEnd, float64(v.Near), "near")
	gauge(nearEnd, float64(v.Last), expiry.Last.String())
	gauge(nearEnd, float64(v.Expired), expiry.Expired.String())
	gauge(endsKnown, b2f(!v.KnownAt.IsZero()))
	sent := c.c.Ledger.Table.Ends(now)
	gauge(sentNearEnd, float64(sent[expiry.Near]), "near")
	gauge(sentNearEnd, float64(sent[expiry.Last]), expiry.Last.String())
	gauge(sentNearEnd, float64(sent[expiry.Expired]), expiry.Expired.String())
	gauge(badCerts, float64(len(expiring.Broken(c.c.Dir, c.c.Catalog))))
	if c.c.Dir == nil {
		return
	}
	var heldNames int
	for _, e := range c.c.Dir.List() {
		if e.Held {
			heldNames++
		}
	}
	gauge(held, float64(heldNames))
}
