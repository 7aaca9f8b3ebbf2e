package enforce

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Denial is something that a node asked for and may not have.
type Denial struct {
	Node, Identity, Remote string
	Name                   string // what it asked for
}

// Denials counts denials and writes them to the log. Whoever connects to a node can make it ask, by
// the name in its handshake. So the log gets the first hundred and then ten a second, and each line
// says how many were left out before it. All methods are safe for concurrent use.
type Denials struct {
	log   *slog.Logger
	audit func(identity, name string)
	lines *rate.Limiter

	certificates, rings, unsaid atomic.Uint64
}

// NewDenials returns one that passes each denial on to audit, which must not block.
func NewDenials(log *slog.Logger, audit func(identity, name string)) *Denials {
	return &Denials{log: log, audit: audit, lines: rate.NewLimiter(10, 100)}
}

// Add takes a denial.
func (d *Denials) Add(n Denial) {
	d.audit(n.Identity, n.Name)
	if _, ring := keysource.RingScope(n.Name); ring {
		d.rings.Add(1)
	} else {
		d.certificates.Add(1)
	}
	if !d.lines.Allow() {
		d.unsaid.Add(1)
		return
	}
	d.log.Warn("denied by the policy: to the node it looks as if it did not exist", "node", n.Node,
		"identity", n.Identity, "remote", n.Remote, "name", n.Name, "left_out", d.unsaid.Swap(0))
}

// Counts returns how many denials there were so far.
func (d *Denials) Counts() (certificates, rings uint64) {
	return d.certificates.Load(), d.rings.Load()
}
