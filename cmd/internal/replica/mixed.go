package replica

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

// mixedPause is for how long all replicas must have one version until the next mixture is another
// one. A replica that is restarted is back before.
const mixedPause = 10 * time.Minute

// mixture is since when the replicas have different versions, and when that was seen last, by this
// machine's clock. It is zero while they have one.
type mixture struct{ since, last time.Time }

// stored is since when it stands, by the store's clock.
func (m mixture) stored(offset time.Duration) time.Time {
	if m.since.IsZero() {
		return m.since
	}
	return m.since.Add(offset)
}

// mix notes since when the replicas have different versions. After a restart it goes on with what
// this replica had written before.
func (r *Registry) mix(local time.Time) {
	since := mixedSince(r.List())
	r.mu.Lock()
	defer r.mu.Unlock()
	if own := r.records[r.cfg.Replica]; r.wrote.Run == "" && !own.Mixed.IsZero() && r.mixed.since.IsZero() {
		r.mixed = mixture{own.Mixed.Add(-r.offset), own.At.Add(-r.offset)}
	}
	paused := local.Sub(r.mixed.last) > mixedPause
	switch {
	case !since.IsZero() && (paused || r.mixed.since.IsZero()):
		r.mixed = mixture{since, local}
	case !since.IsZero():
		r.mixed.last = local
	case paused:
		r.mixed = mixture{}
	}
}

// mixedSince is when the second of several versions came that are alive. It is zero if all have
// one.
func mixedSince(all []api.Replica) time.Time {
	first := map[string]time.Time{}
	for _, one := range all {
		if !alive(one) || one.Version == "" {
			continue
		}
		if at, known := first[one.Version]; !known || one.Since.Before(at) {
			first[one.Version] = one.Since
		}
	}
	if len(first) < 2 {
		return time.Time{}
	}
	return slices.SortedFunc(maps.Values(first), time.Time.Compare)[1]
}

// problems says that the replicas are of different versions.
func (m mixture) problems(all []api.Replica, now time.Time) []api.Problem {
	since := mixedSince(all)
	if since.IsZero() {
		return nil
	}
	if !m.since.IsZero() {
		since = m.since.UTC()
	}
	names := map[string][]string{}
	for _, one := range all {
		if alive(one) && one.Version != "" {
			names[one.Version] = append(names[one.Version], one.Replica)
		}
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(names)) {
		of := names[v]
		if more := len(of) - maxNamed; more > 0 {
			of = append(slices.Clone(of[:maxNamed]), fmt.Sprintf("%d more", more))
		}
		parts = append(parts, v+" ("+strings.Join(of, ", ")+")")
	}
	if more := len(parts) - maxVersions; more > 0 {
		parts = append(parts[:maxVersions], fmt.Sprintf("%d more", more))
	}
	p := problems.New(problems.MixedVersions, "",
		fmt.Sprintf("the replicas have different versions: %s", strings.Join(parts, ", ")))
	p.Since = since
	if now.Sub(p.Since) < upgradeFor {
		p.Severity = api.Notice
	}
	return []api.Problem{p}
}
