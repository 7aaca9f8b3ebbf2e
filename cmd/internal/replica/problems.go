package replica

import (
	"fmt"
	"maps"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

// maxNamed bounds the replicas that a sentence names of a version.
const maxNamed = 5

// Problems says which replicas are missing, which do not answer, that they are of different
// versions, and that another process has the name of this one.
func (r *Registry) Problems() (out []api.Problem) {
	r.mu.Lock()
	known, mixed, twin, offset := !r.looked.IsZero(), r.mixed, r.twin, r.offset
	elsewhere, silent := maps.Clone(r.elsewhere), maps.Clone(r.silent)
	r.mu.Unlock()
	if !known {
		return nil
	}
	now, all := time.Now(), r.List()
	for _, one := range all {
		switch one.State {
		case api.ReplicaMissing:
			out = append(out, ofMissing(one))
		case api.ReplicaLive:
			s, quiet := silent[one.Replica]
			if at, judged := elsewhere[one.Replica]; judged && at == one.Admin {
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
	out = append(out, twin.problems(r.cfg.Replica, offset)...)
	return append(out, mixed.problems(all, now)...)
}

// ofMissing says that a replica is missing. One of an earlier version says nothing when it stops,
// so that nobody knows whether it is to come back.
func ofMissing(one api.Replica) api.Problem {
	text := fmt.Sprintf("replica %s (version %s) has not been heard of since %s, and did not say that it stops; "+
		"after 24 h it is forgotten", one.Replica, one.Version, one.Since.Format(time.RFC3339))
	if one.Version == Earlier {
		text = fmt.Sprintf("replica %s has not been heard of since %s; it is of an earlier version, which does not "+
			"say that it stops; after 24 h it is forgotten", one.Replica, one.Since.Format(time.RFC3339))
	}
	p := problems.New(problems.ReplicaMissing, one.Replica, text)
	p.Since = one.Since
	if one.Version == Earlier {
		p.Severity = api.Notice
	}
	return p
}
