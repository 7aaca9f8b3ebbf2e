package daemon

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// denials counts what nodes asked for and may not have. Whoever connects to a node can make it ask (on demand, by SNI), so that lines about it
// in the log are few: the first hundred, then ten a second; each says how many were left out before it.
type denials struct {
	log   *slog.Logger
	audit func(identity, what string) // is told all of them; nil: nobody. It must not block
	lines *rate.Limiter

	certificates, rings, unsaid atomic.Uint64
}

func newDenials(log *slog.Logger) *denials {
	return &denials{log: log, lines: rate.NewLimiter(10, 100)}
}

// add is what [sds.Config].Denied calls.
func (d *denials) add(node xds.Node, name string) {
	if d.audit != nil {
		d.audit(node.Identity, name)
	}
	if _, ring := keysource.RingScope(name); ring {
		d.rings.Add(1)
	} else {
		d.certificates.Add(1)
	}
	if !d.lines.Allow() {
		d.unsaid.Add(1)
		return
	}
	d.log.Warn("denied by the policy: to the node it looks as if it did not exist", "node", node.ID, "identity", node.Identity, "remote", node.Remote,
		"name", name, "left_out", d.unsaid.Swap(0))
}
