package sds

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Rings says which ring a stream may be sent.
//
// Ring returns nil while it may be sent none; barred if it is never to be sent one and must be told that there is none. It does not block.
type Rings interface {
	Ring(stream uint64, scope string) (ring *keysource.Ring, barred bool)
}

// Config of a [Table].
type Config struct {
	Sources keysource.Sources // of certificates
	Rings   Rings
	Policy  Policy // nil: everybody may have everything
	// Doubt is asked before a name is called absent, and before a certificate that a name has of its own gives way to a wildcard's: its error says why it
	// is not certain that the sources have all that they had, and what was sent stays. Nil: it always is.
	Doubt func(context.Context, keysource.Name) error
	// Denied is told when a node asks for what it may not have, and when a new policy takes something away that it has asked for; with the
	// resource name as it was asked for. It is called by the goroutine of the stream and must not block. Nil: nobody is told.
	Denied func(node xds.Node, name string)
	// Trials is where the fleet writes down who gets a changed certificate first. Nil: every node gets it at once.
	Trials Trials
	// TryFor is how long a node that goes first may take to answer.
	TryFor time.Duration
	// GiveToAll is what an operator types so that every node gets a certificate at once. The log names it.
	GiveToAll string
	// Alone says that there is no other replica: what one stream alone has needs no trial.
	Alone bool
	Log   *slog.Logger
}

// Table holds the secrets that some stream wants now, and nothing else: what nobody asks for costs nothing. It implements
// [xds.Resources]: look-ups answer from memory, and [Table.Run] loads certificates behind them, one flight a name. A certificate that cannot be
// loaded leaves the last good one in place.
type Table struct {
	cfg    Config
	policy atomic.Pointer[Policy] // nil: everybody may have everything

	mu    sync.Mutex
	certs map[string]*entry                      // by the name that was asked
	under map[keysource.Name]map[*entry]struct{} // entries that another name than their own decides: another spelling's, a wildcard's
	rings map[string]map[uint64]*xds.Mailbox     // scope, stream
	sent  map[string]ringed                      // the last ring of a scope as it is sent
	first queue                                  // for the first of several sources
	queue queue
	peers map[*xds.Mailbox]*peer // who watches; only where there is a policy, or trials
	doors doors
	memo  memo
	ill   map[*entry]struct{} // of which some node refused a content, or that got a stand-in; few

	down, bad        complaints // of certificates that cannot be loaded; that are not good
	silent, declined complaints // of trials without an answer; that ended with a refusal

	trials     map[keysource.Name]*trial    // the last of a name
	attempts   []*attempt                   // that wait for their turn
	attempted  chan struct{}                // capacity 1: there are some
	asking     chan struct{}                // one in it for each call of Trials that may block
	trialsOpen atomic.Int32                 // attempts without an outcome
	triedBy    [keysource.Silent + 1]uint64 // attempts by outcome
}

// entry is one certificate under the name that was asked for. There is one for each name that some node holds: keep it small.
type entry struct {
	asked    string
	name     keysource.Name
	res      *xds.Resource // as nodes get it that keep what they refuse
	plain    *xds.Resource // as the edge gets it: under the content's version, with the same bytes; nil: none asked
	notAfter int64         // of res, Unix seconds; 0: there is none
	watchers
	in    *queue      // where it waits; nil: nowhere
	retry *time.Timer // after a load that failed; nil: none is set
	fails int
	from  int   // the source of res
	past  *past // nil: the certificate has never changed, and it could be served

	trying         *trying // nil: every node gets res
	state          xds.State
	wild           bool // res was found under the wildcard that covers name
	bad            bool // what the sources have is not good, and nothing was sent before
	wanted         bool // somebody who may have it asked: until then nothing is spent on it
	loading, again bool // again: something changed while it was loaded
	gone           bool // nobody watches it any more
}

type ringed struct {
	ring        *keysource.Ring
	res, marked *xds.Resource // for the edge; for nodes that keep what they refuse
}

// NewTable starts nothing.
func NewTable(c Config) *Table {
	if c.Denied == nil {
		c.Denied = func(xds.Node, string) {}
	}
	t := &Table{
		cfg: c, first: newQueue(scouts), queue: newQueue(loaders), doors: newDoors(), memo: newMemo(),
		down: complaints{log: c.Log, level: slog.LevelWarn, what: unloaded}, bad: complaints{log: c.Log, level: slog.LevelWarn, what: unloaded},
		silent: complaints{log: c.Log, level: slog.LevelWarn, what: unanswered}, declined: complaints{log: c.Log, level: slog.LevelError, what: fmt.Sprintf(declined, c.GiveToAll)},
		certs: map[string]*entry{}, ill: map[*entry]struct{}{}, under: map[keysource.Name]map[*entry]struct{}{},
		rings: map[string]map[uint64]*xds.Mailbox{}, sent: map[string]ringed{},
		trials: map[keysource.Name]*trial{}, attempted: make(chan struct{}, 1), asking: make(chan struct{}, storeCalls),
	}
	if c.Policy != nil {
		t.policy.Store(&c.Policy)
	}
	if c.Policy != nil || c.Trials != nil {
		t.peers = map[*xds.Mailbox]*peer{}
	}
	return t
}

// Lookup implements [xds.Resources].
func (t *Table) Lookup(node xds.Node, name string) (*xds.Resource, xds.State) {
	if scope, ok := keysource.RingScope(name); ok {
		return t.ring(node, scope)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.certs[name]
	switch {
	case e == nil:
		return nil, xds.NotYet
	case !t.mayHave(node, e):
		return nil, xds.Absent
	}
	if t.doors.shut(node, e) {
		return nil, xds.Absent
	}
	t.want(e)
	if e.state == xds.NotYet && e.bad && t.Varies(node) { // all others' hosts wait for it when a node starts
		if r := e.placeholder(t); r != nil {
			return r, xds.Present
		}
	}
	res, state := e.res, e.state
	if e.trying != nil {
		res, state = t.tryingOut(node, e)
	}
	if res != nil && !t.Varies(node) {
		res = e.unmarked(res)
	}
	return res, state
}

// unmarked is r for the edge, which compares the version with the content. The caller holds mu.
func (e *entry) unmarked(r *xds.Resource) *xds.Resource {
	if e.plain == nil || e.plain.Body != r.Body {
		e.plain = &xds.Resource{Name: r.Name, Version: contentOf(r), Body: r.Body, Group: r.Group, Until: r.Until}
	}
	return e.plain
}

// ring: rings are for the SDS service alone. On ADS a client's SNI could ask for one (as a certificate), and so it does not exist there.
func (t *Table) ring(node xds.Node, scope string) (*xds.Resource, xds.State) {
	if node.Service != xds.SDS {
		return nil, xds.Absent
	}
	if !t.mayHaveRing(node, scope) {
		return nil, xds.NotYet // a ring is never answered with absence: without one Envoy would serve, and every host reset
	}
	ring, barred := t.cfg.Rings.Ring(node.Stream, scope)
	if barred {
		return nil, xds.Absent
	}
	if ring == nil {
		return nil, xds.NotYet
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.sent[scope]
	if have.ring != ring {
		res, err := ringResource(scope, *ring)
		if err != nil {
			t.cfg.Log.Error("a ring cannot be encoded", "scope", scope, "err", err)
			return nil, xds.NotYet
		}
		have = ringed{ring, res, marked(res)}
		t.sent[scope] = have
	}
	if t.Varies(node) {
		return have.marked, xds.Present
	}
	return have.res, xds.Present
}

// Watch implements [xds.Resources]. The first watch of a name, by one who may have it, has it loaded.
func (t *Table) Watch(node xds.Node, name string, box *xds.Mailbox) {
	if !t.watch(node, name, box) {
		t.cfg.Denied(node, name)
	}
}

// watch reports whether the node may have what it watches.
func (t *Table) watch(node xds.Node, name string, box *xds.Mailbox) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.meet(node, box)
	if scope, ok := keysource.RingScope(name); ok {
		if t.rings[scope] == nil {
			t.rings[scope] = map[uint64]*xds.Mailbox{}
		}
		t.rings[scope][node.Stream] = box
		return node.Service != xds.SDS || t.mayHaveRing(node, scope)
	}
	e := t.certs[name]
	if e == nil {
		e = t.enter(name)
	}
	e.add(box)
	through := t.doors.enter(node, e)
	if !t.mayHave(node, e) {
		return false
	}
	if !through {
		return true
	}
	t.want(e)
	return true
}

// Unwatch implements [xds.Resources].
func (t *Table) Unwatch(node xds.Node, name string, box *xds.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave(box)
	if scope, ok := keysource.RingScope(name); ok {
		delete(t.rings[scope], node.Stream)
		if len(t.rings[scope]) == 0 {
			delete(t.rings, scope)
		}
		return
	}
	if e := t.certs[name]; e != nil {
		t.doors.leave(node, e)
		t.unwatch(e, box)
	}
}

// enter makes the entry of a name that nobody watched.
func (t *Table) enter(asked string) *entry {
	e := &entry{asked: asked}
	t.certs[asked] = e
	n, err := keysource.CertificateName(asked)
	if err != nil {
		e.state = xds.Absent // no certificate can have such a name: no look-up is spent on it
		return e
	}
	if e.name = n; string(n) == asked {
		e.name = keysource.Name(asked) // the same bytes: a node may ask for 200 000 names
	}
	for _, decides := range e.decidedBy() {
		if t.under[decides] == nil {
			t.under[decides] = map[*entry]struct{}{}
		}
		t.under[decides][e] = struct{}{}
	}
	return e
}

// want has e loaded if it never was. The caller holds mu.
func (t *Table) want(e *entry) {
	if !e.wanted && e.name != "" {
		e.wanted = true
		t.enqueue(e)
	}
}

// decidedBy lists the names other than e.asked whose certificates e shows.
func (e *entry) decidedBy() (names []keysource.Name) {
	if string(e.name) != e.asked {
		names = append(names, e.name)
	}
	if w := e.name.Wildcard(); w != "" {
		names = append(names, w)
	}
	return names
}

// unwatch forgets an entry with its last watcher. The caller holds mu.
func (t *Table) unwatch(e *entry, box *xds.Mailbox) {
	e.remove(box)
	if !e.none() {
		return
	}
	e.gone = true
	e.calm()
	t.endTrying(e)
	delete(t.certs, e.asked)
	delete(t.ill, e)
	for _, decides := range e.decidedBy() {
		delete(t.under[decides], e)
		if len(t.under[decides]) == 0 {
			delete(t.under, decides)
		}
	}
}

// Refresh has the certificates of these names loaded again, where somebody watches them.
func (t *Table) Refresh(names []keysource.Name) {
	t.memo.forget(names)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range names {
		if e := t.certs[string(n)]; e != nil && e.name != "" {
			t.enqueue(e)
		}
		for e := range t.under[n] {
			t.enqueue(e)
		}
	}
}

// RefreshRing wakes the streams that watch a scope's ring: these, or all where streams is nil.
func (t *Table) RefreshRing(scope string, streams []uint64) {
	t.mu.Lock()
	boxes := make([]*xds.Mailbox, 0, max(len(streams), len(t.rings[scope])))
	if streams == nil {
		boxes = slices.AppendSeq(boxes, maps.Values(t.rings[scope]))
	}
	for _, s := range streams {
		if box := t.rings[scope][s]; box != nil {
			boxes = append(boxes, box)
		}
	}
	t.mu.Unlock() // those who wake look here at once
	name := keysource.RingName(scope)
	for _, box := range boxes {
		box.Put(name)
	}
}

// Expiry is when the first of the certificates expires that are sent now; zero: none is.
func (t *Table) Expiry() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := int64(0)
	for _, e := range t.certs {
		if e.notAfter != 0 && (first == 0 || e.notAfter < first) {
			first = e.notAfter
		}
	}
	if first == 0 {
		return time.Time{}
	}
	return time.Unix(first, 0)
}

// Failing names, sorted, certificates that are watched and could not be loaded at the last try; 20 at most, of n.
func (t *Table) Failing() (names []string, n int) {
	const most = 20
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.certs {
		if e.fails > 0 {
			if n++; len(names) < most {
				names = append(names, e.asked)
			}
		}
	}
	slices.Sort(names)
	return names, n
}

// Suspects are the names, sorted, of which some node refused what they have now, or that have nothing that can be
// served. Whether a node refuses it still, only its stream knows. The cost is that of the names that ever were such.
func (t *Table) Suspects() (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.ill {
		switch {
		case e.state == xds.Present && slices.Contains(e.past.refused, contentOf(e.res)), e.state == xds.NotYet && e.bad:
			names = append(names, e.asked)
		}
	}
	slices.Sort(names)
	return names
}

// RingNames are the names, sorted, of the rings that some stream watches, those of scopes that nobody configured included.
func (t *Table) RingNames() (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for scope := range t.rings {
		names = append(names, keysource.RingName(scope))
	}
	slices.Sort(names)
	return names
}

// Watched is how many certificate names are watched now.
func (t *Table) Watched() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.certs)
}
