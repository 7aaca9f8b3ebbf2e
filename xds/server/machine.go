package server

import (
	"container/heap"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

// environment is what all streams of a server share.
type environment struct {
	types    map[string]xds.Resources
	observe  func(xds.Event)
	admit    func(xds.Node) error // admit is nil if every node may connect.
	log      *slog.Logger
	limits   limits
	hold     atomic.Int64 // hold is limits.held, once it was changed; else 0.
	group    atomic.Int64 // group is limits.grouped, once it was changed; else 0.
	onDemand string       // type URL
	counters counters
}

// held is how many names of the on-demand type a node may hold.
func (e *environment) held() int {
	if n := e.hold.Load(); n > 0 {
		return int(n)
	}
	return e.limits.held
}

// grouped is how many names of a group a node may hold.
func (e *environment) grouped() int {
	if n := e.group.Load(); n > 0 {
		return int(n)
	}
	return e.limits.grouped
}

// machine is the state of one stream and all its rules, without goroutines, I/O or a clock. The
// caller passes requests, changed names and the time, and sends the returned responses in order.
// Only one goroutine may call it at a time.
type machine struct {
	env     *environment
	node    xds.Node // has no ID until the first request
	only    string   // the one type of the service, empty on ADS
	sotw    bool
	mailbox *xds.Mailbox

	subs    []*subscription // few
	ignored []string        // types that were logged as not served
	names   int             // names of all subscriptions
	wire    int             // bytes that these need: see wireSize
	due     []*entry        // entries to look at, in order
	dueGone int             // how many of due have gone
	// absentNames are answered with removal without a look-up: they are too long, or were evicted.
	absentNames []absentName
	parked      parked
	// withdrawn holds the entries that were removed, in order. After leaveWait it is looked at
	// whether the node has unsubscribed.
	withdrawn []calledAbsent
	out       outstanding
	// waiting has since when the names wait that were asked for on demand, and that have had no
	// answer since they cannot be looked up at once.
	waiting map[*entry]time.Time

	eviction eviction
	groups   groups
}

// absentName is a name that is answered with removal without a look-up.
type absentName struct {
	sub  *subscription
	name string
}

// changed answers the names that woke the stream.
func (m *machine) changed(names []string, now time.Time) []*response {
	for _, name := range names {
		for _, sub := range m.subs { // a mailbox knows no types
			if e := sub.names[name]; e != nil {
				m.look(e)
			}
		}
	}
	return m.flush(now)
}

// timer retries what was refused and has waited long enough, and evicts what is due.
func (m *machine) timer(now time.Time) []*response {
	for len(m.parked) > 0 && !m.parked[0].refused.retry.After(now) {
		e := heap.Pop(&m.parked).(*entry)
		e.again, e.alone = true, true
		m.look(e)
	}
	m.recheckWithdrawn(now)
	m.evictExcess(now)
	return m.flush(now)
}

// next returns when timer is to be called. Zero means never.
func (m *machine) next() time.Time {
	when := m.evictionDue()
	if len(m.parked) > 0 && (when.IsZero() || m.parked[0].refused.retry.Before(when)) {
		when = m.parked[0].refused.retry
	}
	if len(m.withdrawn) > 0 {
		if wait := m.withdrawn[0].at.Add(m.env.limits.leaveWait); when.IsZero() || wait.Before(when) {
			when = wait
		}
	}
	return when
}

// close ends all watches, and reports why the stream ended.
func (m *machine) close(why string, now time.Time) {
	for _, sub := range m.subs {
		for _, e := range sub.names {
			sub.src.Unwatch(m.node, e.name, m.mailbox)
		}
	}
	if m.node.ID != "" {
		m.env.observe(xds.Event{Node: m.node, Kind: xds.Closed, Words: printable(why, maxWords), At: now})
	}
}

// subscription returns the subscription of typeURL, and makes it with the first request of that
// type. It returns nil if the type is to be ignored.
func (m *machine) subscription(typeURL string) (sub *subscription, first bool, err error) {
	if m.only != "" {
		if typeURL != "" && typeURL != m.only {
			return nil, false, status.Errorf(codes.InvalidArgument,
				"type_url %q on a service of %q: ask for it on ADS", printable(typeURL, maxNodeID), m.only)
		}
		typeURL = m.only
	}
	if typeURL == "" {
		return nil, false, status.Error(codes.InvalidArgument,
			"type_url is missing: a request on ADS must name its type")
	}
	for _, sub := range m.subs {
		if sub.typeURL == typeURL {
			return sub, false, nil
		}
	}
	src := m.env.types[typeURL]
	if src == nil {
		m.ignore(typeURL)
		return nil, false, nil
	}
	sub = &subscription{typeURL: typeURL, src: src, names: make(map[string]*entry), tail: typeTail(typeURL)}
	if vary, ok := src.(xds.Varying); ok && vary.Varies(m.node) {
		sub.vary = vary
	}
	sub.demand = m.node.Service == xds.ADS && typeURL == m.env.onDemand && !m.sotw
	m.subs = append(m.subs, sub)
	return sub, true, nil
}

// ignore notes that a type was asked for that is not served. Envoy may ask for clusters on the
// stream that brings its secrets.
func (m *machine) ignore(typeURL string) {
	m.env.counters.ignoredTypes.Add(1)
	if len(m.ignored) == m.env.limits.types {
		return
	}
	typeURL = printable(typeURL, maxNodeID)
	if slices.Contains(m.ignored, typeURL) {
		return
	}
	m.ignored = append(m.ignored, typeURL)
	m.env.log.Warn("a node asks for a type that is not served here; it gets nothing", "node", m.node.ID, "type",
		typeURL, "service", m.node.Service)
}

// subscribe adds a name to sub. claim is the version that the node says it holds. first is true
// for names in the first request of a stream: the node may have got something under them on an
// earlier stream. A name that the node asks for later is new to it.
func (m *machine) subscribe(sub *subscription, name, claim string, first bool, now time.Time) (*entry, error) {
	if m.names == m.env.limits.names {
		return nil, tooMany(m.env.limits.names)
	}
	e := &entry{sub: sub, name: name, sent: claim, claimed: claim != "", bodyUnknown: first && sub.vary != nil}
	sub.src.Watch(m.node, name, m.mailbox) // before the look-up, so that no change is missed
	sub.names[name] = e
	m.names++
	m.wire += wireSize(name)
	held, believed := xds.Content(claim)
	m.env.observe(xds.Event{
		Node: m.node, Type: sub.typeURL, Name: name, Version: held, Kind: xds.Asked, Believed: believed ||
			sub.vary == nil, At: now,
	})
	m.look(e)
	return e, nil
}

// tooMany returns the error that ends a stream with more than limit names.
func tooMany(limit int) error {
	return status.Errorf(codes.ResourceExhausted,
		"more than %d names on one stream: spread them over several streams or nodes", limit)
}

// drop forgets e, from which the node unsubscribed.
func (m *machine) drop(e *entry, now time.Time) {
	e.gone = true
	m.eviction.dropped(e)
	m.groups.leave(e)
	e.sub.src.Unwatch(m.node, e.name, m.mailbox)
	m.unpark(e)
	m.unblock(e)
	delete(e.sub.names, e.name)
	m.names--
	m.wire -= wireSize(e.name)
	delete(m.waiting, e)
	m.emit(e, xds.Dropped, "", "", now)
	// The queue must not grow while a node subscribes and unsubscribes and nothing can be sent.
	if e.due {
		if m.dueGone++; m.dueGone > len(m.due)/2 {
			m.due = slices.DeleteFunc(m.due, func(e *entry) bool { return e.gone })
			m.dueGone = 0
		}
	}
}

// look puts e into the queue that flush works off.
func (m *machine) look(e *entry) {
	if !e.due {
		e.due = true
		m.due = append(m.due, e)
	}
}

// emit reports an event about e.
func (m *machine) emit(e *entry, kind xds.Kind, version, words string, now time.Time) {
	m.env.observe(xds.Event{Node: m.node, Type: e.sub.typeURL, Name: e.name, Version: version, Kind: kind,
		Words: words, At: now})
}

// emitSent reports that version of e was sent. first is for the first answer on demand.
func (m *machine) emitSent(e *entry, version string, first bool, now time.Time) {
	ev := xds.Event{Node: m.node, Type: e.sub.typeURL, Name: e.name, Version: version, Kind: xds.Sent, At: now,
		First: first}
	if since, waited := m.waiting[e]; waited {
		ev.Took = now.Sub(since)
		delete(m.waiting, e)
	}
	m.env.observe(ev)
}

// emitAccepted reports that the node said of version of e that it uses it.
func (m *machine) emitAccepted(e *entry, version string, now time.Time) {
	ev := xds.Event{Node: m.node, Type: e.sub.typeURL, Name: e.name, Version: version, Kind: xds.Accepted, At: now}
	if version == e.sent && e.sentAt != 0 {
		ev.Took = time.Duration(now.UnixNano() - e.sentAt)
	}
	m.env.observe(ev)
}

// wait notes that e waits for its first answer.
func (m *machine) wait(e *entry, now time.Time) {
	if !e.sub.demand || e.sentAt != 0 {
		return
	}
	if m.waiting == nil {
		m.waiting = map[*entry]time.Time{}
	}
	if _, known := m.waiting[e]; !known {
		m.waiting[e] = now
	}
}
