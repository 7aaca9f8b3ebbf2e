package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

var (
	problemCount = desc("problems",
		"Problems that lockstep status shows at this replica and nobody has acknowledged, by code. "+
			"The label alert is the rule that tells of them, or none.", "code", "severity", "alert")
	acknowledged = desc("problems_acknowledged",
		"Problems that an operator has acknowledged (lockstep status --ack), by code.", "code", "severity")
	replicaMissing = desc("replica_missing", "1 for a replica that is not heard of, did not say that it stops, and "+
		"is not acknowledged. It ends with that, and after 24 h.", "replica")
)

// problemMetrics counts the problems of each code. Every code of the register has a series, so that
// their number is bounded, and a problem that ends goes to 0.
func problemMetrics(gauge func(*prometheus.Desc, float64, ...string), all []api.Problem) {
	type series struct {
		code     string
		severity api.Severity
	}
	n := map[series]int{}
	for _, k := range problems.Register {
		n[series{k.Code, k.Severity}] = 0
	}
	known := map[series]int{}
	for _, p := range all {
		if p.Code == problems.ReplicaMissing && problems.Counts(p) {
			gauge(replicaMissing, 1, p.Where)
		}
		if p.Acknowledged != nil {
			known[series{p.Code, p.Severity}]++
		} else {
			n[series{p.Code, p.Severity}]++
		}
	}
	for s, v := range known {
		gauge(acknowledged, float64(v), s.code, string(s.severity))
	}
	for s, v := range n {
		gauge(problemCount, float64(v), s.code, string(s.severity), alertOf(s.code))
	}
}

func alertOf(code string) string {
	switch k, ok := problems.Find(code); {
	case !ok:
		return problems.Generic
	case k.Alert == "":
		return "none"
	default:
		return k.Alert
	}
}
