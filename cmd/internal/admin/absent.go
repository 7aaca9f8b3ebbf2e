package admin

import (
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// maxAbsent bounds the absent names of a node in a list of the fleet.
const maxAbsent = 20

// absent says why nodes do not get what they ask for.
type absent struct {
	policy *identity.Policy // policy is nil if everybody may have everything.
	most   int              // most is how many names a node may show.
}

// isAbsent reports whether a node asked for something that it cannot have, and has nothing instead.
func isAbsent(st server.NameState) bool {
	return st.Known == xds.Absent && st.Sent == "" && !st.Evicted
}

// may reports whether a node may show one more.
func (a absent) may(n *api.Node) bool {
	have := 0
	for _, s := range n.Secrets {
		if s.State == stateAbsent {
			have++
		}
	}
	return have < a.most
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
