package problems

import (
	"slices"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// MaxTold bounds the problems that a replica tells another one.
const MaxTold = 20

// summed are the codes of problems that are summed up over the replicas. What one of them says
// alone adds nothing.
var summed = []string{
	StandIn, NodeWithoutRing, NodeInDoubt, CertificateRefused, SecretsUnlisted, CertificatesStale, NodesNearEnd,
}

// ofFleet are the codes of problems that each replica finds by itself in the same state of the
// fleet. All others are about the replica that has them.
var ofFleet = []string{
	NodeStuck, KeysInDoubt, KeyTooOld, RingRefused, KeyRefused, RosterUnreadable, NodeExcluded,
	StoreLost, StoreFrozen, RecordsUnopenable, CertificatesExpired, NotRenewed,
	ReplicaMissing, MixedVersions, NodeMissing, NodeGone,
}

// Told is what another replica says is not well with it.
type Told struct {
	Replica  string
	Problems []api.Problem
}

// Join adds to the problems of one replica, self, what others say. The same problem of several
// replicas stands there once, with their names.
func Join(self string, here []api.Problem, others []Told) []api.Problem {
	type key struct{ code, where, text string }
	keyOf := func(p api.Problem) key {
		if slices.Contains(ofFleet, p.Code) {
			return key{p.Code, p.Where, ""}
		}
		return key{p.Code, p.Where, p.Text}
	}
	out := slices.Clone(here)
	at := map[key]int{}
	for i, p := range out {
		at[keyOf(p)] = i
	}
	for _, o := range others {
		for _, p := range o.Problems[:min(len(o.Problems), MaxTold)] {
			i, known := at[keyOf(p)]
			switch {
			case slices.Contains(summed, p.Code):
				// What is summed up stands since it stood at one of them.
				if known && !p.Since.IsZero() && p.Since.Before(out[i].Since) {
					out[i].Since = p.Since
				}
			case !known:
				p.Replicas, p.Acknowledged = []string{o.Replica}, nil
				at[keyOf(p)] = len(out)
				out = append(out, p)
			case i < len(here) && slices.Contains(ofFleet, p.Code): // self has found it, too
			case i < len(here) && len(out[i].Replicas) == 0:
				out[i].Replicas = []string{self, o.Replica}
			case !slices.Contains(out[i].Replicas, o.Replica):
				out[i].Replicas = append(out[i].Replicas, o.Replica)
			}
		}
	}
	return out
}
