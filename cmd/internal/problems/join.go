package problems

import (
	"regexp"
	"slices"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// MaxTold bounds the problems that a replica tells another one.
const MaxTold = 20

// summed are the codes of problems that are summed up over the replicas. What one of them says
// alone adds nothing, once its nodes are in the sum.
var summed = []string{
	StandIn, NodeWithoutRing, NodeInDoubt, CertificateRefused, SecretsUnlisted, CertificatesStale, NodesNearEnd,
}

// ofFleet are the codes of problems that each replica finds by itself in the same state of the
// fleet. All others are about the replica that has them. So are those that depend on its directory
// of certificates, its sealing keys, or its expected nodes.
var ofFleet = []string{
	NodeStuck, KeysInDoubt, KeyTooOld, RingRefused, KeyRefused, RosterUnreadable, NodeExcluded,
	StoreLost, StoreFrozen, ReplicaMissing, MixedVersions, NodeGone,
}

// aging are the codes of problems whose text says how long ago something was, or how soon it is.
// Two replicas do not say it at the same moment.
var aging = []string{CertificatesExpired, NotRenewed}

// age is a time of such a text.
var age = regexp.MustCompile(`\b(\d+[dhms])+\b`)

// Told is what another replica says is not well with it.
type Told struct {
	Replica  string
	Problems []api.Problem
	// Summed reports that the nodes of the replica are in what is summed up.
	Summed bool
}

// Join adds to the problems of one replica, self, what others say. The same problem of several
// replicas stands there once, with their names.
func Join(self string, here []api.Problem, others []Told) []api.Problem {
	type key struct{ code, where, text string }
	keyOf := func(p api.Problem) key {
		if slices.Contains(ofFleet, p.Code) {
			return key{p.Code, p.Where, ""}
		}
		if slices.Contains(aging, p.Code) {
			return key{p.Code, p.Where, age.ReplaceAllString(p.Text, "")}
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
			case o.Summed && slices.Contains(summed, p.Code):
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
