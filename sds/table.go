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

	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Rings says which ring a stream may be sent.
//
// Ring returns nil while the stream may be sent none. barred is true if it is never to be sent
// one, and is to be answered that there is none. Ring does not block.
type Rings interface {
	Ring(stream uint64, scope string) (ring *keysource.Ring, barred bool)
}

// Config is what a [Table] needs.
type Config struct {
	Sources keysource.Sources // where certificates are looked up, in order
	Rings   Rings
	Policy  Policy // nil allows everything to everybody
	// CheckComplete is called before a name is called absent, and before a name's own certificate
	// gives way to that of its wildcard. Its error says why the sources may lack something that
	// they had, and what was sent stays. If CheckComplete is nil, the sources always have all.
	CheckComplete func(context.Context, keysource.Name) error
	// Denied is called when a node asks for what it may not have. It is called, too, when a new
	// policy takes away something that a node has asked for. name is the resource name as it was
	// asked for. The goroutine of the stream calls it, so it must not block. It may be nil.
	Denied func(node xds.Node, name string)
	// Trials records for the fleet who gets a changed certificate first. If it is nil, every node
	// gets it at once.
	Trials Trials
	// TryFor is how long a node that goes first may take to answer.
	TryFor time.Duration
	// GiveToAll is what an operator types so that every node gets a certificate at once. The log
	// names it.
	GiveToAll string
	// OnlyReplica reports that there is no other replica. Then a certificate that only one stream
	// has needs no trial.
	OnlyReplica bool
	Log         *slog.Logger
}

// Table holds the secrets that some stream wants now, and nothing else: what nobody asks for costs
// nothing. It implements [xds.Resources]. Look-ups answer from memory, and [Table.Run] loads
// certificates in the background, one load of a name at a time. A certificate that cannot be
// loaded leaves the last good one in place.
type Table struct {
	cfg    Config
	policy atomic.Pointer[Policy] // nil allows everything to everybody

	mu    sync.Mutex
	certs map[string]*entry // entries by the name that was asked for
	// dependents holds the entries that another name than the one asked for decides: the normal
	// spelling, or the wildcard.
	dependents map[keysource.Name]map[*entry]struct{}
	rings      map[string]map[uint64]*xds.Mailbox // scope → stream → mailbox
	sent       map[string]encodedRing             // scope → its last ring as it is sent
	firstQueue queue                              // for the first of several sources
	queue      queue
	peers      map[*xds.Mailbox]*peer // who watches; nil without a policy and without trials
	spellings  spellings
	cache      findCache
	// suspects are entries of which some node refused a content, or that got a stand-in. There
	// are few.
	suspects map[*entry]struct{}

	// These log certificates that cannot be loaded, and certificates that are not good.
	notLoaded, notGood failureLog
	// These log trials without an answer, and trials that ended with a refusal.
	unanswered, refused failureLog

	trials      map[keysource.Name]*trial // the last trial of a name
	trialQueue  []*kindTrial              // trials that wait for their turn
	trialQueued chan struct{}             // capacity 1; ready when trialQueue has something
	// holds one value for each call of Trials that may block
	storeSlots chan struct{}
	trialsOpen atomic.Int32                 // trials of a kind without an outcome
	outcomes   [keysource.Silent + 1]uint64 // trials of a kind, by outcome
}

// entry is one certificate under the name that was asked for. There is one for each name that some
// node holds, so keep it small.
type entry struct {
	asked string
	name  keysource.Name
	res   *xds.Resource // as nodes get it that keep what they refuse
	// plain is res as the edge gets it: under the version of the content, with the same bytes. It
	// is nil if no edge asked.
	plain    *xds.Resource
	notAfter int64 // of res, in Unix seconds; 0 if there is none
	watchers
	in    *queue      // the queue in which it waits, or nil
	retry *time.Timer // runs after a failed load, else nil
	fails int
	from  int // index of the source of res
	// history is nil if the certificate has never changed, and could be served.
	history *history

	pending *pendingChange // nil if every node gets res
	life    uint32         // life is how long res is valid from its beginning on, in seconds.
	state   xds.State
	wild    bool // res was found under the wildcard that covers name
	bad     bool // what the sources have is not good, and nothing was sent before
	// wanted reports that somebody asked who may have it. Until then nothing is spent on it.
	wanted bool
	// loading reports that it is being loaded; again, that something changed meanwhile.
	loading, again bool
	gone           bool // nobody watches it any more
}

// encodedRing is a ring as it is sent.
type encodedRing struct {
	ring        *keysource.Ring
	res, marked *xds.Resource // res is for the edge, marked for nodes that keep what they refuse
}

// NewTable returns a table. It starts nothing.
func NewTable(c Config) *Table {
	if c.Denied == nil {
		c.Denied = func(xds.Node, string) {}
	}
	t := &Table{
		cfg: c, firstQueue: newQueue(firstLoaders), queue: newQueue(loaders), spellings: newSpellings(),
		cache:      newFindCache(),
		notLoaded:  failureLog{log: c.Log, level: slog.LevelWarn, what: msgNotLoaded},
		notGood:    failureLog{log: c.Log, level: slog.LevelWarn, what: msgNotLoaded},
		unanswered: failureLog{log: c.Log, level: slog.LevelWarn, what: msgUnanswered},
		refused:    failureLog{log: c.Log, level: slog.LevelError, what: fmt.Sprintf(msgRefused, c.GiveToAll)},
		certs:      map[string]*entry{}, suspects: map[*entry]struct{}{},
		dependents: map[keysource.Name]map[*entry]struct{}{},
		rings:      map[string]map[uint64]*xds.Mailbox{}, sent: map[string]encodedRing{},
		trials: map[keysource.Name]*trial{}, trialQueued: make(chan struct{}, 1),
		storeSlots: make(chan struct{}, storeCalls),
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
	if t.spellings.refuses(node, e) {
		return nil, xds.Absent
	}
	t.want(e)
	// When a node starts, all its hosts wait for this one.
	if e.state == xds.NotYet && e.bad && t.Varies(node) {
		if r := e.makeStandIn(t); r != nil {
			return r, xds.Present
		}
	}
	if r := e.absentSecond(); r != nil && t.Varies(node) {
		return r, xds.Present
	}
	res, state := e.res, e.state
	if e.pending != nil {
		res, state = t.lookupPending(node, e)
	}
	if res != nil && !t.Varies(node) {
		res = e.unmarked(res)
	}
	return res, state
}

// unmarked returns r as the edge gets it, which compares the version with the content. The caller
// holds mu.
func (e *entry) unmarked(r *xds.Resource) *xds.Resource {
	if e.plain == nil || e.plain.Body != r.Body {
		e.plain = &xds.Resource{Name: r.Name, Version: contentOf(r), Body: r.Body, Group: r.Group, Until: r.Until}
	}
	return e.plain
}

// ring looks up the ring of scope. Rings exist on the SDS service only. On ADS a client's SNI
// could ask for one, as if it were a certificate.
func (t *Table) ring(node xds.Node, scope string) (*xds.Resource, xds.State) {
	if node.Service != xds.SDS {
		return nil, xds.Absent
	}
	if !t.mayHaveRing(node, scope) {
		// A ring is never answered with absence: Envoy would serve without one, and reset every
		// host.
		return nil, xds.NotYet
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
		have = encodedRing{ring, res, marked(res)}
		t.sent[scope] = have
	}
	if t.Varies(node) {
		return have.marked, xds.Present
	}
	return have.res, xds.Present
}

// Watch implements [xds.Resources]. The first watch of a name by a node that may have it has it
// loaded.
func (t *Table) Watch(node xds.Node, name string, mailbox *xds.Mailbox) {
	if !t.watch(node, name, mailbox) {
		t.cfg.Denied(node, name)
	}
}

// watch reports whether the node may have what it watches.
func (t *Table) watch(node xds.Node, name string, mailbox *xds.Mailbox) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addPeer(node, mailbox)
	if scope, ok := keysource.RingScope(name); ok {
		if t.rings[scope] == nil {
			t.rings[scope] = map[uint64]*xds.Mailbox{}
		}
		t.rings[scope][node.Stream] = mailbox
		return node.Service != xds.SDS || t.mayHaveRing(node, scope)
	}
	e := t.certs[name]
	if e == nil {
		e = t.newEntry(name)
	}
	e.add(mailbox)
	allowed := t.spellings.admit(node, e)
	if !t.mayHave(node, e) {
		return false
	}
	if !allowed {
		return true
	}
	t.want(e)
	return true
}

// Unwatch implements [xds.Resources].
func (t *Table) Unwatch(node xds.Node, name string, mailbox *xds.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removePeer(mailbox)
	if scope, ok := keysource.RingScope(name); ok {
		delete(t.rings[scope], node.Stream)
		if len(t.rings[scope]) == 0 {
			delete(t.rings, scope)
		}
		return
	}
	if e := t.certs[name]; e != nil {
		t.spellings.leave(node, e)
		t.unwatch(e, mailbox)
	}
}

// newEntry makes the entry of a name that nobody watched.
func (t *Table) newEntry(asked string) *entry {
	e := &entry{asked: asked}
	t.certs[asked] = e
	n, err := keysource.CertificateName(asked)
	if err != nil {
		e.state = xds.Absent // no certificate can have such a name, so none is looked up
		return e
	}
	if e.name = n; string(n) == asked {
		e.name = keysource.Name(asked) // shares the bytes, since a node may ask for 200 000 names
	}
	for _, decides := range e.decidedBy() {
		if t.dependents[decides] == nil {
			t.dependents[decides] = map[*entry]struct{}{}
		}
		t.dependents[decides][e] = struct{}{}
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

// decidedBy lists the names, other than e.asked, whose certificates decide what e is.
func (e *entry) decidedBy() (names []keysource.Name) {
	if string(e.name) != e.asked {
		names = append(names, e.name)
	}
	if w := e.name.Wildcard(); w != "" {
		names = append(names, w)
	}
	if e.name.IsSecond() {
		names = append(names, e.name.Host())
		if w := e.name.Host().Wildcard(); w != "" {
			names = append(names, w)
		}
	}
	return names
}

// unwatch removes a watcher of e, and forgets e with its last one. The caller holds mu.
func (t *Table) unwatch(e *entry, mailbox *xds.Mailbox) {
	e.remove(mailbox)
	if !e.none() {
		return
	}
	e.gone = true
	e.stopRetry()
	t.endPending(e)
	delete(t.certs, e.asked)
	delete(t.suspects, e)
	for _, decides := range e.decidedBy() {
		delete(t.dependents[decides], e)
		if len(t.dependents[decides]) == 0 {
			delete(t.dependents, decides)
		}
	}
}

// Refresh has the certificates of these names loaded again, where somebody watches them.
func (t *Table) Refresh(names []keysource.Name) {
	t.cache.forget(names)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range names {
		if e := t.certs[string(n)]; e != nil && e.name != "" {
			t.enqueue(e)
		}
		for e := range t.dependents[n] {
			t.enqueue(e)
		}
	}
}

// RefreshRing wakes the streams that watch the ring of scope. If streams is not nil, it wakes only
// these.
func (t *Table) RefreshRing(scope string, streams []uint64) {
	t.mu.Lock()
	mailboxes := make([]*xds.Mailbox, 0, max(len(streams), len(t.rings[scope])))
	if streams == nil {
		mailboxes = slices.AppendSeq(mailboxes, maps.Values(t.rings[scope]))
	}
	for _, s := range streams {
		if mailbox := t.rings[scope][s]; mailbox != nil {
			mailboxes = append(mailboxes, mailbox)
		}
	}
	t.mu.Unlock() // those that wake look up here at once
	name := keysource.RingName(scope)
	for _, mailbox := range mailboxes {
		mailbox.Put(name)
	}
}

// Expiry returns when the first of the certificates expires that are sent now. It is zero if none
// is sent.
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

// Ends counts by state the certificates that nodes were sent.
func (t *Table) Ends(now time.Time) (n [expiry.Expired + 1]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.certs {
		if e.notAfter != 0 {
			end := time.Unix(e.notAfter, 0)
			s := expiry.Span{NotBefore: end.Add(-time.Duration(e.life) * time.Second), NotAfter: end}
			n[s.State(expiry.Served, now)]++
		}
	}
	return n
}

// Failing lists the watched certificates that could not be loaded at the last try: at most 20
// names, sorted. n counts all of them.
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

// Suspects lists, sorted, the names of which some node refused what they have now. It also lists
// those that have nothing that can be served. Whether a node still refuses it, only its stream
// knows. The cost depends on how many names were ever suspects.
func (t *Table) Suspects() (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.suspects {
		switch {
		case e.state == xds.Present && slices.Contains(e.history.refused, contentOf(e.res)), e.state == xds.NotYet &&
			e.bad:
			names = append(names, e.asked)
		}
	}
	slices.Sort(names)
	return names
}

// RingNames lists the names, sorted, of the rings that some stream watches, including rings of
// scopes that nobody configured.
func (t *Table) RingNames() (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for scope := range t.rings {
		names = append(names, keysource.RingName(scope))
	}
	slices.Sort(names)
	return names
}

// Watched returns how many certificate names are watched now.
func (t *Table) Watched() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.certs)
}
