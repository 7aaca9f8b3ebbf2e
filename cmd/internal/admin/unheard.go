package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// unheard adds to silent, the replicas that did not answer, those that were not asked, since they
// are not heard of and did not say that they stop. They may be cut off from the store, and still
// have nodes.
func (a *admin) unheard(silent []string) []string {
	for _, one := range a.cfg.Replicas.List() {
		asked := slices.ContainsFunc(silent, func(s string) bool { return strings.HasPrefix(s, one.Replica+":") })
		if (one.State == api.ReplicaUnheard || one.State == api.ReplicaMissing) && !asked {
			silent = append(silent, fmt.Sprintf("%s: it has not been heard of since %s, and was not asked",
				one.Replica, one.Since.Format(time.RFC3339)))
		}
	}
	return silent
}
