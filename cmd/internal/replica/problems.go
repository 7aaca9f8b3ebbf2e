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

// maxNamed bounds the replicas that a sentence names of a version.
const maxNamed = 5

// Problems says which replicas are missing, which do not answer, and that they are of different
// versions.
func (r *Registry) Problems() (out []api.Problem) {
	r.mu.Lock()
	known := r.read
	elsewhere, silent := maps.Clone(r.elsewhere), maps.Clone(r.silent)
	r.mu.Unlock()
	if !known {
		return nil
	}
	now, all := time.Now(), r.List()
	for _, one := range all {
		switch one.State {
		case api.ReplicaMissing:
			p := problems.New(problems.ReplicaMissing, one.Replica, fmt.Sprintf(
				"replica %s (version %s) has not been heard of since %s, and did not say that it stops; "+
					"after 24 h it is forgotten", one.Replica, one.Version, one.Since.Format(time.RFC3339)))
			p.Since = one.Since
			out = append(out, p)
		case api.ReplicaLive:
			s, quiet := silent[one.Replica]
			if _, cannot := elsewhere[one.Replica]; cannot {
				p := problems.New(problems.ReplicaUnreachable, one.Replica, fmt.Sprintf(
					"replica %s is on another machine, as it seems, and cannot ask this one, "+
						"whose admin API listens on loopback: %s", one.Replica, r.cfg.Admin))
				p.Next = "set admin_listen (--admin-listen) to an address that the other replicas reach"
				out = append(out, p)
			} else if quiet && s.last.Sub(s.since) >= unreachableAfter {
				p := problems.New(problems.ReplicaUnreachable, one.Replica, fmt.Sprintf(
					"replica %s writes that it is there, and does not answer at %s, which it gave as its own: %v",
					one.Replica, one.Admin, s.err))
				p.Since = s.since
				out = append(out, p)
			}
		}
	}
	return append(out, mixed(all, now)...)
}

// mixed says that the replicas are of different versions. That begins when the second version came.
func mixed(all []api.Replica, now time.Time) []api.Problem {
	first, names := map[string]time.Time{}, map[string][]string{}
	for _, one := range all {
		if !alive(one) || one.Version == "" {
			continue
		}
		if at, known := first[one.Version]; !known || one.Since.Before(at) {
			first[one.Version] = one.Since
		}
		names[one.Version] = append(names[one.Version], one.Replica)
	}
	if len(first) < 2 {
		return nil
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
	p.Since = slices.SortedFunc(maps.Values(first), time.Time.Compare)[1]
	if now.Sub(p.Since) < upgradeFor {
		p.Severity = api.Notice
	}
	return []api.Problem{p}
}
