package daemon

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/xds"
)

// metrics are read from the rooms at each scrape; none has a label per host or node.
func (d *Daemon) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{d}, version.Metric(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// ledger is what is known of the secrets on the streams.
func (d *Daemon) ledger() admin.Ledger {
	return admin.Ledger{Streams: d.xds, Table: d.table, Rollouts: d.rolls, Prover: d.prover}
}

type collector struct{ d *Daemon }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lockstep_"+name, help, labels, nil)
}

var (
	phaseSeconds  = desc("scope_phase_seconds", "Seconds in the present phase of the scope's rollout; 0 for the other phases.", "scope", "phase")
	keyAge        = desc("encrypting_key_age_seconds", "Age of the oldest key that a live node may encrypt with.", "scope")
	maxKeyAge     = desc("max_key_age_seconds", "The policy's max_key_age.", "scope")
	ringKeys      = desc("ring_keys", "Keys in the ring.", "scope")
	doubted       = desc("ring_keys_in_doubt", "Keys in the ring from before the store was put back or lost writes: one of them may have been burnt since.", "scope")
	generation    = desc("ring_generation", "Generation of the ring.", "scope")
	rotations     = desc("rotations_total", "Rotations and burns that ended.", "scope")
	nodes         = desc("nodes", "Nodes on the scope's roster.", "scope", "state")
	stuck         = desc("nodes_stuck", "Nodes connected here that refuse whatever they are sent: they must be restarted.")
	ringless      = desc("nodes_without_ring", "Nodes connected here that asked for a ring and have accepted none.")
	certsRefused  = desc("certificates_refused", "Certificates of which some node that is connected here refuses what they have now.")
	disproved     = desc("nodes_in_doubt", "Nodes connected here that accepted their ring, while handshakes with them showed that some host does not use it.")
	standIns      = desc("certificates_stand_in", "Certificates for which some node that is connected here has a stand-in, which no client believes.")
	left          = desc("laggards_left_behind_total", "Nodes that a rotation went on without.", "scope")
	storeUp       = desc("store_up", "1 while the store can be read and written.")
	clockSkew     = desc("clock_skew_seconds", "How far the store's clock is ahead of this machine's; beyond 30 either way, rollouts are left to the other replicas.")
	sealWell      = desc("seal_well", "1 while the canary opens with the sealing key and its source can be read.")
	eventsUp      = desc("events_up", "1 while connected to NATS.")
	eventCount    = desc("events_total", "Events by what became of them.", "outcome")
	streams       = desc("xds_streams", "Open xDS streams.")
	secretEvents  = desc("xds_secret_events_total", "What happened to secrets on streams.", "kind")
	refusals      = desc("xds_refusals_total", "Secrets that nodes refused.")
	wildcards     = desc("xds_wildcards_total", "Subscriptions to everything, which get nothing.")
	unknownNonces = desc("xds_unknown_nonces_total", "Requests with a nonce that is not outstanding.")
	denied        = desc("policy_denied_total", "Subscriptions to what the policy does not grant.", "kind")
	policyGood    = desc("policy_in_force", "1 while the policy file is in force as it stands; 0 while it cannot be used and the last good one is.")
	policyBack    = desc("policy_put_back", "1 for a day after a policy, or the lack of one, that was replaced earlier came into force again.")
	policyReads   = desc("policy_reads_total", "Policies that took effect, and that were refused.", "outcome")
	auditLines    = desc("audit_lines_total", "Lines written into the audit log.")
	auditRefused  = desc("audit_refused_total", "Changes that were refused since no sink of the audit log could be written.")
	auditFailed   = desc("audit_sink_failures_total", "Writes that a sink of the audit log failed.", "sink")
	cutOff        = desc("xds_cut_off_total", "Streams ended because the peer did not take what was sent.")
	evicted       = desc("xds_evicted_total", "Names that nodes were made to let go of, as they held too many.")
	doorsShut     = desc("xds_names_refused_total", "Names that nodes were refused: of which they had another spelling already, of too many under one wildcard, or that are not UTF-8.", "door")
	certReads     = desc("certificate_reads_total", "Certificates that were asked of the store, those that are not there included.")
	watched       = desc("certificates_watched", "Certificate names that some node wants.")
	trials        = desc("certificate_trials_total", "Changed certificates that one node of a kind got first, by what became of it.", "outcome")
	declined      = desc("certificates_refused_first", "Changed certificates that the first node of a kind refused, so that no other of its kind gets them.")
	problems      = desc("certificate_problems", "Certificates of the directory that cannot be served as they are.")
	held          = desc("certificates_held", "Names gone from the directory and held back.")
	expiry        = desc("certificate_earliest_expiry_seconds", "Seconds until the first certificate expires that stands in the directory or that some node was sent.")
)

// Describe sends nothing: the collector is unchecked, since scopes come from the configuration.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	up := 1.0
	for _, name := range c.d.rolls.Scopes() {
		st, err := c.d.rolls.Status(name)
		if err != nil {
			continue
		}
		if st.Err != nil && !errors.Is(st.Err, rotation.ErrUnrecorded) {
			up = 0
		}
		scopeMetrics(gauge, count, name, st)
		c.d.seen.mu.Lock()
		count(left, uint64(c.d.seen.skipped[name]), name)
		c.d.seen.mu.Unlock()
	}
	gauge(storeUp, up)
	gauge(clockSkew, c.d.rolls.Skew().Seconds())
	seal := c.d.custody.Status()
	gauge(sealWell, b2f(seal.Canary == nil && seal.Err == nil))
	gauge(eventsUp, b2f(c.d.bus.down() == nil))
	n := c.d.bus.Counts()
	count(eventCount, n.Published, "published")
	count(eventCount, n.Lost, "lost")
	count(eventCount, n.Received, "received")
	count(eventCount, n.Dropped, "dropped")
	ill := c.d.ledger().Counts(context.Background(), time.Now())
	gauge(stuck, float64(ill.Stuck))
	gauge(ringless, float64(ill.Ringless))
	gauge(certsRefused, float64(ill.Refused))
	gauge(standIns, float64(ill.StandIns))
	gauge(disproved, float64(ill.Doubted))
	s := c.d.xds.Stats()
	gauge(streams, float64(s.Streams))
	for kind := range c.d.seen.kinds {
		count(secretEvents, c.d.seen.kinds[kind].Load(), xds.Kind(kind).String())
	}
	count(refusals, c.d.seen.kinds[xds.Refused].Load())
	count(wildcards, s.Wildcards)
	count(unknownNonces, s.UnknownNonces)
	count(cutOff, s.CutOff)
	count(evicted, s.Evicted)
	count(doorsShut, c.d.table.SpellingsRefused(), "spelling")
	count(doorsShut, s.Crowded, "wildcard")
	count(doorsShut, s.BadNames, "bytes")
	count(certReads, c.d.certs.Reads())
	for how, n := range c.d.table.Tried() {
		if how := keysource.Outcome(how); how != keysource.Trying {
			count(trials, n, how.String())
		}
	}
	_, refused := c.d.table.Refusals()
	gauge(declined, float64(refused))
	count(denied, c.d.denials.certificates.Load(), "certificate")
	count(denied, c.d.denials.rings.Load(), "ring")
	gauge(policyBack, b2f(c.d.data.policyPutBack() != ""))
	if p := c.d.policy; p != nil {
		gauge(policyGood, b2f(p.ill() == nil))
		taken, bad := p.reads()
		count(policyReads, taken, "taken")
		count(policyReads, bad, "refused")
	}
	log := c.d.audit.Counts()
	count(auditLines, log.Lines)
	count(auditRefused, log.Refused)
	for sink, n := range log.Failed {
		count(auditFailed, n, sink)
	}
	c.certificates(gauge)
}

func scopeMetrics(gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string), name string, st rotation.Status) {
	ro := st.Rollout
	for _, p := range []rotation.Phase{rotation.Steady, rotation.Distributing, rotation.Promoting, rotation.Burning} {
		v := 0.0
		if ro.Phase == p {
			v = st.Now.Sub(ro.Since).Seconds()
		}
		gauge(phaseSeconds, v, name, string(p))
	}
	age := 0.0
	for i, k := range ro.Keys {
		if i == 0 || k.Demoted != 0 && k.Idle.IsZero() {
			age = max(age, st.Now.Sub(k.First).Seconds())
		}
	}
	gauge(keyAge, age, name)
	gauge(maxKeyAge, st.Policy.MaxKeyAge.Seconds(), name)
	gauge(ringKeys, float64(len(ro.Keys)), name)
	_, doubt := ro.Doubt()
	gauge(doubted, float64(len(doubt)), name)
	gauge(generation, float64(ro.Generation), name)
	count(rotations, ro.Ended, name)
	n := ro.Count(st.Policy, st.Tally, st.Now)
	for state, v := range map[string]int{"live": n.Live, "accepted": n.Accepted, "refused": n.Refused, "stale": n.Stale, "away": n.Away, "excluded": n.Excluded} {
		gauge(nodes, float64(v), name, state)
	}
}

func (c collector) certificates(gauge func(*prometheus.Desc, float64, ...string)) {
	gauge(watched, float64(c.d.table.Watched()))
	first := c.d.table.Expiry()
	defer func() {
		if !first.IsZero() {
			gauge(expiry, time.Until(first).Seconds())
		}
	}()
	if c.d.dir == nil {
		return
	}
	var bad, heldNames int
	for _, e := range c.d.dir.List() {
		if e.Problem != "" {
			bad++
		}
		if e.Held {
			heldNames++
		}
		if !e.NotAfter.IsZero() && (first.IsZero() || e.NotAfter.Before(first)) {
			first = e.NotAfter
		}
	}
	gauge(problems, float64(bad))
	gauge(held, float64(heldNames))
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
