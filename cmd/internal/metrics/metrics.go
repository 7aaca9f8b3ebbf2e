// Package metrics is /metrics of lockstepd. Each value is read from the room that knows it at
// each scrape. No metric has a label for a host or a node, so their number does not grow with the
// fleet. The one exception names the 100 certificates that end first.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/bus"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/identity/transport"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/xds"
)

// Config names the rooms that are read.
type Config struct {
	Ledger  admin.Ledger // what is known of the secrets on the streams
	Catalog *catalog.Catalog
	Dir     *dir.Dir // nil: no directory of certificates
	Custody *custody.Custodian
	Bus     *bus.Bus
	Policy  *enforce.Enforcer
	Denials *enforce.Denials
	Audit   *audit.Log
	MTLS    *transport.MTLS // nil: plaintext is spoken
	Failed  *transport.Failures
	// Happened returns how often each kind of event happened on streams, by [xds.Kind].
	Happened  func() []uint64
	Durations *Durations
	// Problems returns what is not well at this replica. It waits for nothing.
	Problems func() []api.Problem
	// LeftBehind returns how many nodes the rotations of a scope went on without.
	LeftBehind func(scope string) int
	// Gone returns how many nodes that were here are gone, and how many expected ones are missing.
	Gone func() (gone, missing int)
	// Replicas counts those that are alive, this one included, by version.
	Replicas func() map[string]int
}

// Handler answers scrapes.
func Handler(c Config) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{c}, version.Metric(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(c.Durations.collectors()...)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 8})
}

type collector struct{ c Config }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lockstep_"+name, help, labels, nil)
}

var (
	phaseSeconds = desc("scope_phase_seconds",
		"Seconds in the present phase of the scope's rollout; 0 for the other phases.", "scope", "phase")
	keyAge = desc("encrypting_key_age_seconds",
		"Age of the oldest key that a live node may encrypt with.", "scope")
	maxKeyAge = desc("max_key_age_seconds", "The policy's max_key_age.", "scope")
	ringKeys  = desc("ring_keys", "Keys in the ring.", "scope")
	doubted   = desc("ring_keys_in_doubt",
		"Keys in the ring from before the store was put back or lost writes: one of them "+
			"may have been burnt since.", "scope")
	generation = desc("ring_generation", "Generation of the ring.", "scope")
	rotations  = desc("rotations_total", "Rotations and burns that ended.", "scope")
	nodes      = desc("nodes", "Nodes on the scope's roster.", "scope", "state")
	stuck      = desc("nodes_stuck",
		"Nodes connected here that refuse whatever they are sent: they must be restarted.")
	nodesGone = desc("nodes_gone",
		"Nodes that were here within 30 days, and were not for longer than their lease, at all replicas.")
	nodesMissing = desc("nodes_missing", "Nodes of expected_nodes that are connected to no replica.")
	replicaCount = desc("replicas",
		"Replicas that are alive, by version; earlier for one that does not say it. "+
			"The 10 most frequent versions are told apart; the rest is other.", "version")
	ringless = desc("nodes_without_ring",
		"Nodes connected here that asked for a ring and have accepted none.")
	certsRefused = desc("certificates_refused",
		"Certificates of which some node that is connected here refuses what they have now.")
	disproved = desc("nodes_in_doubt",
		"Nodes connected here that accepted their ring, while handshakes with them "+
			"showed that some host does not use it.")
	standIns = desc("certificates_stand_in",
		"Certificates for which some node that is connected here has a stand-in, which no client believes.")
	left      = desc("laggards_left_behind_total", "Nodes that a rotation went on without.", "scope")
	storeUp   = desc("store_up", "1 while the store can be read and written.")
	clockSkew = desc("clock_skew_seconds",
		"How far the store's clock is ahead of this machine's; beyond 30 either way, "+
			"rollouts are left to the other replicas.")
	sealWell = desc("seal_well",
		"1 while the canary opens with the sealing key and its source can be read.")
	eventsUp      = desc("events_up", "1 while connected to NATS.")
	eventCount    = desc("events_total", "Events by what became of them.", "outcome")
	streams       = desc("xds_streams", "Open xDS streams.")
	secretEvents  = desc("xds_secret_events_total", "What happened to secrets on streams.", "kind")
	refusals      = desc("xds_refusals_total", "Secrets that nodes refused.")
	wildcards     = desc("xds_wildcards_total", "Subscriptions to everything, which get nothing.")
	unknownNonces = desc("xds_unknown_nonces_total", "Requests with a nonce that is not outstanding.")
	denied        = desc("policy_denied_total", "Subscriptions to what the policy does not grant, "+
		"and nodes whose id it does not allow.", "kind")
	policyGood = desc("policy_in_force",
		"1 while the policy file is in force as it stands; 0 while it cannot be used and the last good one is.")
	policyBack = desc("policy_put_back",
		"1 for a day after a policy, or the lack of one, that was replaced earlier came into force again.")
	policyReads  = desc("policy_reads_total", "Policies that took effect, and that were refused.", "outcome")
	auditLines   = desc("audit_lines_total", "Lines written into the audit log.")
	auditRefused = desc("audit_refused_total",
		"Changes that were refused since no sink of the audit log could be written.")
	auditFailed  = desc("audit_sink_failures_total", "Writes that a sink of the audit log failed.", "sink")
	cutOff       = desc("xds_cut_off_total", "Streams ended because the peer did not take what was sent.")
	evicted      = desc("xds_evicted_total", "Names that nodes were made to let go of, as they held too many.")
	namesRefused = desc("xds_names_refused_total",
		"Names that nodes were refused: of which they had another spelling already, of "+
			"too many under one wildcard, or that are not UTF-8.", "door")
	certReads = desc("certificate_reads_total",
		"Certificates that were asked of the store, those that are not there included.")
	watched = desc("certificates_watched", "Certificate names that some node wants.")
	trials  = desc("certificate_trials_total",
		"Changed certificates that one node of a kind got first, by what became of it.", "outcome")
	declined = desc("certificates_refused_first",
		"Changed certificates that the first node of a kind refused, so that no other of its kind gets them.")
	badCerts = desc("certificate_problems",
		"Certificates of the directory that cannot be served as they are.")
	held = desc("certificates_held", "Names gone from the directory and held back.")
)

// Describe sends nothing, since scopes come from the configuration. So the collector is unchecked.
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
	for _, name := range c.c.Ledger.Rollouts.Scopes() {
		st, err := c.c.Ledger.Rollouts.Status(name)
		if err != nil {
			continue
		}
		if st.Err != nil && !errors.Is(st.Err, fleet.ErrUnrecorded) {
			up = 0
		}
		scopeMetrics(gauge, count, name, st)
		count(left, uint64(c.c.LeftBehind(name)), name)
	}
	gauge(storeUp, up)
	skew, _ := c.c.Ledger.Rollouts.Skew()
	gauge(clockSkew, skew.Seconds())
	seal := c.c.Custody.Status()
	gauge(sealWell, b2f(seal.Canary == nil && seal.Err == nil))
	gauge(eventsUp, b2f(c.c.Bus.Connected()))
	n := c.c.Bus.Counts()
	count(eventCount, n.Published, "published")
	count(eventCount, n.Lost, "lost")
	count(eventCount, n.Received, "received")
	count(eventCount, n.Dropped, "dropped")
	gone, missing := c.c.Gone()
	gauge(nodesGone, float64(gone))
	gauge(nodesMissing, float64(missing))
	for version, n := range c.c.Replicas() {
		gauge(replicaCount, float64(n), version)
	}
	troubles := c.c.Ledger.Counts(context.Background(), time.Now())
	gauge(stuck, float64(troubles.Stuck))
	gauge(ringless, float64(troubles.Ringless))
	gauge(certsRefused, float64(troubles.Refused))
	gauge(standIns, float64(troubles.StandIns))
	gauge(disproved, float64(troubles.Doubted))
	s := c.c.Ledger.Streams.Stats()
	gauge(streams, float64(s.Streams))
	happened := c.c.Happened()
	for kind, n := range happened {
		count(secretEvents, n, xds.Kind(kind).String())
	}
	count(refusals, happened[xds.Refused])
	count(wildcards, s.Wildcards)
	count(unknownNonces, s.UnknownNonces)
	count(cutOff, s.CutOff)
	count(evicted, s.Evicted)
	count(namesRefused, c.c.Ledger.Table.SpellingsRefused(), "spelling")
	count(namesRefused, s.Crowded, "wildcard")
	count(namesRefused, s.BadNames, "bytes")
	count(certReads, c.c.Catalog.Reads())
	for how, n := range c.c.Ledger.Table.Tried() {
		if how := keysource.Outcome(how); how != keysource.Trying {
			count(trials, n, how.String())
		}
	}
	_, refused := c.c.Ledger.Table.Refusals()
	gauge(declined, float64(refused))
	certs, rings, turned := c.c.Denials.Counts()
	count(denied, certs, "certificate")
	count(denied, rings, "ring")
	count(denied, turned, "node")
	gauge(policyBack, b2f(c.c.Policy.PutBack() != nil))
	if p := c.c.Policy; p.Policy() != nil {
		gauge(policyGood, b2f(p.Fault() == nil))
		taken, bad := p.Counts()
		count(policyReads, taken, "taken")
		count(policyReads, bad, "refused")
	}
	log := c.c.Audit.Counts()
	count(auditLines, log.Lines)
	count(auditRefused, log.Refused)
	for sink, n := range log.Failed {
		count(auditFailed, n, sink)
	}
	c.certificates(gauge)
	agentMetrics(gauge, c.c.Ledger.Streams.Agents())
	c.connections(gauge, count)
	problemMetrics(gauge, c.c.Problems())
}

func scopeMetrics(
	gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string),
	name string, st fleet.Status,
) {
	for _, p := range []rotation.Phase{rotation.Steady, rotation.Distributing, rotation.Promoting, rotation.Burning} {
		v := 0.0
		if st.Phase == p {
			v = st.Now.Sub(st.Since).Seconds()
		}
		gauge(phaseSeconds, v, name, string(p))
	}
	age := 0.0
	for _, k := range st.Keys {
		if k.MayEncrypt {
			age = max(age, st.Now.Sub(k.FirstUsed).Seconds())
		}
	}
	gauge(keyAge, age, name)
	gauge(maxKeyAge, st.Policy.MaxKeyAge.Seconds(), name)
	gauge(ringKeys, float64(len(st.Keys)), name)
	gauge(doubted, float64(len(st.Doubted)), name)
	gauge(generation, float64(st.Generation), name)
	count(rotations, st.Ended, name)
	n := st.Count
	for state, v := range map[string]int{
		"live": n.Live, "accepted": n.Accepted, "refused": n.Refused,
		"stale": n.Stale, "away": n.Away, "excluded": n.Excluded,
	} {
		gauge(nodes, float64(v), name, state)
	}
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
