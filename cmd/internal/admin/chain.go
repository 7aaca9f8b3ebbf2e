package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/eager"
)

// These are the values of Kind in [api.Chain].
const (
	chainEager    = "eager"
	chainOnDemand = "on-demand"
	chainUnknown  = "unknown"
)

// chainOf returns the filter chain of the listener that serves clients which send n. It is nil if
// no listener is served.
func (a *admin) chainOf(n keysource.Name) *api.Chain {
	l := a.cfg.Listeners
	if l == nil {
		return nil
	}
	if !l.Eager.Ready() {
		return &api.Chain{Kind: chainUnknown, Words: "the pins were not read yet: the store cannot be read"}
	}
	hosts, _ := l.Eager.Hosts()
	return chainAmong(hosts, n, l.Eager.Max())
}

// chainAmong chooses as Envoy does. It takes the chain of n, else that of the nearest wildcard
// above it at any depth, else the one that fetches on demand.
func chainAmong(hosts []eager.Host, n keysource.Name, most int) *api.Chain {
	over := false
	for name := n; name != ""; name = above(name) {
		i := slices.IndexFunc(hosts, func(h eager.Host) bool { return h.Name == name })
		if i < 0 {
			continue
		}
		if hosts[i].BeyondMax {
			over = over || name == n
			continue
		}
		c := &api.Chain{Kind: chainEager, Host: string(name), By: string(hosts[i].By)}
		if c.Words = fmt.Sprintf("%s is eager (%s): it has a filter chain of its own, and its sessions resume",
			n, c.By); name != n {
			c.Words = fmt.Sprintf("clients get the eager chain of %s (%s), with that certificate, "+
				"and their sessions resume; %s is not eager itself", name, c.By, n)
		}
		return c
	}
	c := &api.Chain{Kind: chainOnDemand, Words: fmt.Sprintf("%s is fetched on demand, "+
		"and its sessions do not resume (lockstep host pin)", n)}
	if over {
		c.Words = fmt.Sprintf("%s should be eager and is beyond max_eager (%d): "+
			"it is fetched on demand, and its sessions do not resume", n, most)
	}
	return c
}

// above returns the next wildcard that Envoy tries after a name, or nothing. A chain's wildcard
// stands for any number of labels, unlike a certificate's.
func above(n keysource.Name) keysource.Name {
	_, parent, _ := strings.Cut(strings.TrimPrefix(string(n), "*."), ".")
	if parent == "" {
		return ""
	}
	return keysource.Name("*." + parent)
}
