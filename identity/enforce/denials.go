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
// says how many were left out before it. Fewer are told as events, since the record of these is
// bounded. All methods are safe for concurrent use.
type Denials struct {
	cfg   DenialsConfig
	lines *rate.Limiter
	tells *rate.Limiter

	certificates, rings, nodes, unsaid, untold atomic.Uint64

	mu     sync.Mutex
	turned []TurnedAway // turned has the newest last, and each id with each identity once.
}

// DenialsConfig names who hears of denials. Neither function may block.
type DenialsConfig struct {
	Log *slog.Logger
	// Audit gets each denial.
	Audit func(identity, name string)
	// Tell gets the first hundred, and then one a second. It may be nil.
	Tell func(Told)
}

// Told is a denial with what an event says.
type Told struct {
	Denial
	Text    string
	LeftOut uint64 // LeftOut is how many were not told before it.
}

// TurnedAway is a node that may not connect, since its identity may not use its id.
type TurnedAway struct {
	Denial
	At time.Time // At is when it came last.
	// Since is when it began, and Times how often it came since then. It has ended when it did not
	// come for a while.
	Since time.Time
	Times int
}

// goesOn is how long after a node came last it is taken to be turned away still. Envoy tries again
// at least every 30 s, and lockstep-edge, too.
const goesOn = 3 * time.Minute

// maxTurned bounds how many nodes that were turned away are remembered.
const maxTurned = 256

// NewDenials returns one that has seen no denial.
func NewDenials(c DenialsConfig) *Denials {
	if c.Tell == nil {
		c.Tell = func(Told) {}
	}
	return &Denials{cfg: c, lines: rate.NewLimiter(10, 100), tells: rate.NewLimiter(1, 100)}
}

// Add takes a denial.
func (d *Denials) Add(n Denial) {
	d.cfg.Audit(n.Identity, n.Name)
	if _, ring := keysource.RingScope(n.Name); ring {
		d.rings.Add(1)
	} else {
		d.certificates.Add(1)
	}
	if d.mayLog() {
		d.cfg.Log.Warn("denied by the policy: to the node it looks as if it did not exist", "node", n.Node,
			"identity", n.Identity, "remote", n.Remote, "name", n.Name, "left_out", d.unsaid.Swap(0))
	}
	d.tell(n, fmt.Sprintf("the policy denies %s to node %s, whose identity is %q: to the node it looks as if it did "+
		"not exist", n.Name, n.Node, n.Identity))
}

// tell passes a denial on as an event, unless there are too many.
func (d *Denials) tell(n Denial, text string) {
	if !d.tells.Allow() {
		d.untold.Add(1)
		return
	}
	out := d.untold.Swap(0)
	if out > 0 {
		text += fmt.Sprintf("; %d denials before it have no line", out)
	}
	d.cfg.Tell(Told{n, text, out})
}

// TurnAway takes a node that may not connect, since its identity may not use its id. The audit log
// calls it node/ID. The error is for the node and for people.
func (d *Denials) TurnAway(n Denial) error {
	err := fmt.Errorf("the policy does not let %q call itself node %q: give the node an id that the rules of "+
		"this identity list under nodes, or list this one there", n.Identity, n.Node)
	d.cfg.Audit(n.Identity, "node/"+n.Node)
	d.nodes.Add(1)
	d.remember(n)
	if d.mayLog() {
		d.cfg.Log.Warn("a node was turned away by the policy", "node", n.Node, "identity", n.Identity,
			"remote", n.Remote, "why", err, "left_out", d.unsaid.Swap(0))
	}
	d.tell(n, fmt.Sprintf("node %s at %s was turned away: %v", n.Node, n.Remote, err))
	return err
}

func (d *Denials) remember(n Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	next := TurnedAway{Denial: n, At: now, Since: now, Times: 1}
	d.turned = slices.DeleteFunc(d.turned, func(have TurnedAway) bool {
		if have.Node != n.Node || have.Identity != n.Identity {
			return false
		}
		if now.Sub(have.At) < goesOn {
			next.Since, next.Times = have.Since, have.Times+1
		}
		return true
	})
	if len(d.turned) >= maxTurned {
		d.turned = slices.Delete(d.turned, 0, 1)
	}
	d.turned = append(d.turned, next)
}

// TurnedAwayNow returns the nodes that are turned away, the one that came last first. One that has
// not come for three minutes is no longer among them.
func (d *Denials) TurnedAwayNow(now time.Time) (out []TurnedAway) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range slices.Backward(d.turned) {
		if now.Sub(t.At) >= goesOn {
			break
		}
		out = append(out, t)
	}
	return out
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
