package admin

import (
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

const (
	// maxAbsent bounds the absent names of a node in a list of the fleet.
	maxAbsent = 20
	// maxAbsentOfOne bounds those of a node that is looked at alone. Clients make names up, and a
	// node that fetches certificates on demand asks for each.
	maxAbsentOfOne = 1000
)

// absent says why nodes do not get what they ask for.
type absent struct {
	policy *identity.Policy // policy is nil if everybody may have everything.
	most   int              // most is how many names a node may show.
	shown  map[*api.Node]int
}

// isAbsent reports whether a node asked for something that it cannot have, and has nothing instead.
func isAbsent(st server.NameState) bool {
	return st.Known == xds.Absent && st.Sent == "" && !st.Evicted
}

// takes reports whether a node may show one more, and counts it.
func (a absent) takes(n *api.Node) bool {
	if a.shown[n] >= a.most {
		return false
	}
	a.shown[n]++
	return true
}

// why says why there is no such secret for the node, and what to do.
func (a absent) why(node xds.Node, name string) string {
	if why := sds.NotOurs(name); why != "" {
		return why
	}
	n, err := keysource.CertificateName(name)
	if err == nil && a.policy != nil && !a.policy.AllowsName(node.Identity, n) {
		return "the policy does not grant it to this node: lockstep explain " + string(n) + " --node " + node.ID
	}
	return "there is no certificate for it: lockstep explain " + string(n)
}
