package enforce

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

	certificates, rings, nodes, unsaid atomic.Uint64

	mu     sync.Mutex
	turned []TurnedAway // turned has the newest last, and each id with each identity once.
}

// TurnedAway is a node that may not connect, since its identity may not use its id.
type TurnedAway struct {
	Denial
	At time.Time // At is when it came last.
}

// maxTurned bounds how many nodes that were turned away are remembered.
const maxTurned = 256

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
	if d.mayLog() {
		d.log.Warn("denied by the policy: to the node it looks as if it did not exist", "node", n.Node,
			"identity", n.Identity, "remote", n.Remote, "name", n.Name, "left_out", d.unsaid.Swap(0))
	}
}

// TurnAway takes a node that may not connect, since its identity may not use its id. The audit log
// calls it node/ID. The error is for the node and for people.
func (d *Denials) TurnAway(n Denial) error {
	err := fmt.Errorf("the policy does not let %q call itself node %q: give the node an id that the rules of "+
		"this identity list under nodes, or list this one there", n.Identity, n.Node)
	d.audit(n.Identity, "node/"+n.Node)
	d.nodes.Add(1)
	d.remember(n)
	if d.mayLog() {
		d.log.Warn("a node was turned away by the policy", "node", n.Node, "identity", n.Identity,
			"remote", n.Remote, "why", err, "left_out", d.unsaid.Swap(0))
	}
	return err
}

func (d *Denials) remember(n Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turned = slices.DeleteFunc(d.turned, func(have TurnedAway) bool {
		return have.Node == n.Node && have.Identity == n.Identity
	})
	if len(d.turned) >= maxTurned {
		d.turned = slices.Delete(d.turned, 0, 1)
	}
	d.turned = append(d.turned, TurnedAway{n, time.Now()})
}

// LastTurnedAway returns when a node of that id was turned away last. ok is false if that is not
// known.
func (d *Denials) LastTurnedAway(node string) (last TurnedAway, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range slices.Backward(d.turned) {
		if t.Node == node {
			return t, true
		}
	}
	return TurnedAway{}, false
}

// mayLog reports whether the log gets a line now.
func (d *Denials) mayLog() bool {
	if d.lines.Allow() {
		return true
	}
	d.unsaid.Add(1)
	return false
}

// Counts returns how many denials there were so far, and how often a node was turned away.
func (d *Denials) Counts() (certificates, rings, nodes uint64) {
	return d.certificates.Load(), d.rings.Load(), d.nodes.Load()
}
