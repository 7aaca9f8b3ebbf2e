package replica

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// Earlier stands for the version of a replica that does not say which it has.
const Earlier = "earlier"

const (
	// maxVersions bounds the versions that are told apart in a metric.
	maxVersions = 10
	// unsaidFor is how long a replica may take to say its version.
	unsaidFor = 30 * time.Second
	other     = "other"
)

// List returns the replicas by name: this one, those that are alive, and those that were here
// within a day. Times are by this machine's clock.
func (r *Registry) List() []api.Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []api.Replica{{Replica: r.cfg.Replica, Version: r.cfg.Version, State: api.ReplicaHere, Since: r.begun.UTC()}}
	for name, h := range r.heard {
		out = append(out, r.listed(name, h, time.Now()))
	}
	slices.SortFunc(out, func(a, b api.Replica) int { return cmp.Compare(a.Replica, b.Replica) })
	return out
}

// listed says how another replica stands. The caller holds the lock.
func (r *Registry) listed(name string, h heard, now time.Time) api.Replica {
	rec, recorded := r.records[name]
	// An earlier version writes no record, and may have taken the place of one that did.
	// A goodbye that is older than the roster is not its own, also once it has ended.
	replaced := recorded && (h.at.Sub(rec.At) > staleAfter || rec.Stopped && h.at.Sub(rec.At) > slack)
	one := api.Replica{Replica: name, Version: rec.Version, Admin: h.admin, State: api.ReplicaLive, Since: h.first}
	switch {
	case recorded && rec.Stopped && !replaced:
		one.State, one.Since = api.ReplicaStopped, rec.At
	case h.missing(r.looked):
		one.State, one.Since = api.ReplicaMissing, h.at
		if rec.At.After(h.at) {
			one.Since = rec.At
		}
	case !h.alive:
		one.State, one.Since = api.ReplicaUnheard, h.at
	case replaced:
		one.Since = rec.At
	case !rec.Started.IsZero():
		one.Since = rec.Started
	}
	if one.Since = one.Since.Add(-r.offset).UTC(); replaced || rec.Version == "" {
		one.Version = Earlier
		if !recorded && now.Sub(one.Since) < unsaidFor {
			one.Version = "" // it may be about to say it
		}
	}
	if s, silent := r.silent[name]; silent {
		one.Silent = s.err.Error()
	}
	return one
}

// Versions counts the replicas that are alive, by version. Beyond ten versions the rest is other.
func (r *Registry) Versions() map[string]int {
	n := map[string]int{}
	for _, one := range r.List() {
		if alive(one) && one.Version != "" {
			n[one.Version]++
		}
	}
	names := slices.SortedFunc(maps.Keys(n), func(a, b string) int { return cmp.Or(n[b]-n[a], cmp.Compare(a, b)) })
	for i, v := range names {
		if i >= maxVersions && v != other {
			n[other] += n[v]
			delete(n, v)
		}
	}
	return n
}

func alive(one api.Replica) bool { return one.State == api.ReplicaHere || one.State == api.ReplicaLive }
