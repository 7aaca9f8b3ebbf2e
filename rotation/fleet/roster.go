package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// roster is what one replica knows of the nodes of one scope. A stream that asked for the ring is
// a candidate until it accepts one. Then it is a member. The scope's mutex guards the roster.
type roster struct {
	members map[string][]*entry // members are by node id, in the order of their numbers.
	streams map[uint64]*entry   // streams are the entries that are connected.
	barred  map[uint64]bool     // barred are the streams that turned out to want a certificate.
	groups  groups              // groups bounds what each group of members takes.
	// crowded are the streams that are not on the roster, since their group has no room.
	crowded map[uint64]Asked
	highest uint64 // highest is rotation.Tally.Highest.
	dirty   bool   // dirty says that the roster differs from what is stored.
}

// entry is a node on the roster, or a second stream of one.
type entry struct {
	rotation.Member
	asked bool // asked says that it joined since the roster was stored last.
	ready bool // ready says that it stands in the stored roster, and the ring was read again since.

	ringOnly bool // ringOnly is Asked.Ring.
	// notBelieved says that it names a ring that it holds, and that this is not certain.
	notBelieved bool

	// order is its stream's, also when that has ended. It is zero if it is from before a restart.
	order order

	// duplicateSince is when this entry was found to be a second one for its node. It is zero if
	// it is the only one. A reconnecting stream that names a ring creates such an entry when the
	// node's earlier stream has not ended yet. It belongs to the place on the roster, whichever
	// stream has that.
	duplicateSince time.Time
}

// order says which of two streams of a node came later. Streams are numbered as they are served.
// After a pause those of dead connections are served beside the living one, in any order, and only
// their connections tell. The streams of one connection come in order.
type order struct{ conn, stream uint64 }

func (n order) after(other order) bool {
	return cmp.Or(cmp.Compare(n.conn, other.conn), cmp.Compare(n.stream, other.stream)) > 0
}

func newRoster() *roster {
	return &roster{
		members: map[string][]*entry{}, streams: map[uint64]*entry{}, barred: map[uint64]bool{},
		groups: groups{}, crowded: map[uint64]Asked{},
	}
}

// resume takes over what the replica stored before it stopped. Nobody is connected to it yet.
// Nodes that were are away from now on, since it is not known when they lost their streams. It
// comes before the first join.
func (o *roster) resume(ms []rotation.Member, now time.Time) {
	for _, m := range ms {
		if m.Connected {
			m.Connected, m.Since = false, now
		}
		all := o.members[m.Node]
		i, twice := slices.BinarySearchFunc(all, m.Nr, func(e *entry, nr int) int { return e.Nr - nr })
		if twice {
			if m.Sum { // what it stands for is lost to nobody
				standFor(&all[i].Member, &m)
			}
			continue
		}
		e := &entry{Member: m}
		o.members[m.Node] = slices.Insert(all, i, e)
		o.groups.add(e)
	}
	o.dirty = o.dirty || len(ms) > 0
}

// enter adds a stream that asked for the ring. A node that says it holds one is a member from the
// start, and back if it was away. What it holds is known only if that is believed. enter returns
// false if the node says that it holds none, and the stream's group has no room for one more. Then
// it is sent no ring, and enters once there is room.
func (o *roster) enter(a Asked, current keysource.Ring, now time.Time) bool {
	stream, node, held := a.Stream, a.Node, a.Held
	if o.streams[stream] != nil || o.barred[stream] {
		return true
	}
	e := &entry{
		Member: rotation.Member{
			Node: node, Connected: true, Since: now, Stream: stream, Group: a.Group, Grouped: a.Group != "",
		},
		asked: true, ringOnly: a.Ring, order: order{a.Conn, stream},
	}
	if generation, ok := keysource.ParseRingVersion(held); ok {
		e.Answered, e.Brought = true, true
		switch {
		case generation > current.Generation:
			if rotation.Believed(generation, current.Generation) {
				o.highest = max(o.highest, generation)
			}
		case !a.Believed: // its floor is unknown, and so 0, unless it is known from before
			e.notBelieved = true
		case generation < current.Generation || held == current.Version():
			e.Floor = generation
		} // else it is a ring of another lineage, and its floor is unknown, too
	}
	if e.Answered && o.takeOver(e) {
		o.streams[stream] = e
		return true
	}
	// Who holds a ring makes tickets. He is waited for, however many there are.
	if !e.Answered && !o.groups.room(e) {
		o.crowded[stream] = a
		return false
	}
	if e.Answered && slices.ContainsFunc(o.members[node], func(have *entry) bool { return have.Answered }) {
		e.duplicateSince = now
	}
	o.place(e)
	o.streams[stream] = e
	o.dirty = true
	return true
}

// enterCrowded has those enter for whom there is room by now.
func (o *roster) enterCrowded(current keysource.Ring, now time.Time) {
	for stream, a := range o.crowded {
		delete(o.crowded, stream)
		o.enter(a, current, now)
	}
}

// takeOver puts e in the place of a member of the same node that is away, and reports whether
// there was one.
func (o *roster) takeOver(e *entry) bool {
	all := o.members[e.Node]
	i := slices.IndexFunc(all, func(have *entry) bool { return !have.Connected && !have.Sum })
	if i < 0 {
		return false
	}
	e.Nr, e.duplicateSince = all[i].Nr, all[i].duplicateSince
	if e.notBelieved {
		// it has not been restarted, so it holds what it had accepted, or something later
		e.Floor = all[i].Floor
	}
	o.groups.remove(all[i])
	o.groups.add(e)
	all[i] = e
	o.dirty = true
	return true
}

// place gives e the lowest free number of its node.
func (o *roster) place(e *entry) {
	all := o.members[e.Node]
	i := 0
	for i < len(all) && all[i].Nr == i+1 {
		i++
	}
	e.Nr = i + 1
	o.members[e.Node] = slices.Insert(all, i, e)
	o.groups.add(e)
}

// accept notes that the stream accepted a generation. It returns the entry, or nil if the stream
// is not on the roster.
func (o *roster) accept(stream, generation uint64) *entry {
	e := o.streams[stream]
	if e == nil {
		return nil
	}
	o.answered(e)
	e.Floor = max(e.Floor, generation)
	if e.Refused <= generation {
		e.Refused, e.Words, e.Stuck = 0, "", false
	}
	o.dirty = true
	return e
}

// answered makes e a member. If it was none, the node has restarted, and the stream is what became
// of the member that is away.
func (o *roster) answered(e *entry) {
	if e.Answered {
		return
	}
	e.Answered = true
	o.unplace(e)
	if !o.takeOver(e) {
		o.place(e)
	}
}

// refuse notes a refusal. A stream whose first answer is a refusal wanted a certificate. It
// leaves the roster without a trace, and barred is true. But a stream that asks for a ring and
// nothing else is a node's. Some of the node's filter chains may have taken the ring.
func (o *roster) refuse(stream, generation uint64, words string) (barred bool) {
	e := o.streams[stream]
	if e == nil {
		return o.barred[stream]
	}
	o.dirty = true
	if !e.Answered && !e.ringOnly {
		o.barred[stream] = true
		o.remove(e)
		return true
	}
	o.answered(e)
	e.Refused, e.Words = generation, words
	return false
}

// markStuck notes that nothing helps a node that refuses the ring, and reports whether there is
// one.
func (o *roster) markStuck(node string) (known bool) {
	for _, e := range o.members[node] {
		if e.Connected && e.Refused != 0 && !e.Stuck {
			e.Stuck, known, o.dirty = true, true, true
		}
	}
	return known
}

// drop notes that the stream lives and no longer wants the ring. The node serves without it.
func (o *roster) drop(stream uint64) {
	delete(o.crowded, stream)
	if e := o.streams[stream]; e != nil {
		o.remove(e)
		o.dirty = true
	}
}

// end notes the end of a stream. Its node is away, not gone. A stream that was never sent a
// ring leaves nothing on the roster. end reports whether the roster knew the stream.
func (o *roster) end(stream uint64, now time.Time) bool {
	delete(o.barred, stream)
	delete(o.crowded, stream)
	e := o.streams[stream]
	if e == nil {
		return false
	}
	o.dirty = true
	if !e.Answered && !e.ready {
		o.remove(e)
		return true
	}
	delete(o.streams, stream)
	e.Connected, e.Since, e.Stream = false, now, 0
	o.giveWay(e, now)
	return true
}

// giveWay has a later stream of the node take the place of e, whose stream has ended. A node
// notices a dead connection by its own keepalive. It may be back before this replica notices, or
// back and gone. Then a later stream of it has a place of its own. A candidate takes nobody's
// place, since any client can make a node open one.
func (o *roster) giveWay(e *entry, now time.Time) {
	var next *entry
	for _, have := range o.members[e.Node] {
		duplicate := e.isDuplicate(now) || have.isDuplicate(now)
		if have.Answered && have.order.after(e.order) && duplicate && (next == nil || have.order.after(next.order)) {
			next = have
		}
	}
	if next == nil {
		return
	}
	if e.duplicateSince.IsZero() {
		next.duplicateSince = time.Time{}
	}
	o.unplace(e)
	if e.Nr < next.Nr {
		o.unplace(next)
		o.place(next)
	}
}

func (e *entry) isDuplicate(now time.Time) bool { return now.Sub(e.duplicateSince) < duplicateFor }

func (o *roster) remove(e *entry) {
	delete(o.streams, e.Stream)
	o.unplace(e)
}

func (o *roster) unplace(e *entry) {
	before := len(o.members[e.Node])
	all := slices.DeleteFunc(o.members[e.Node], func(have *entry) bool { return have == e })
	if len(all) < before {
		o.groups.remove(e)
	}
	if o.members[e.Node] = all; len(all) == 0 {
		delete(o.members, e.Node)
	}
}

// expire forgets the nodes whose lease has ended.
func (o *roster) expire(p rotation.Policy, now time.Time) {
	var ended []*entry
	for _, all := range o.members {
		for _, e := range all {
			if !e.Connected && !e.Live(p, now) {
				ended = append(ended, e)
			}
		}
	}
	for _, e := range ended {
		o.unplace(e)
		o.dirty = true
	}
}

// outage notes that nothing was heard of the other replicas from a moment until now. That time
// counts against nobody who may have come to one of them.
func (o *roster) outage(from, now time.Time) {
	lost := max(now.Sub(from), 0) // it is below 0 if the store's clock was set back
	for _, all := range o.members {
		for _, e := range all {
			if e.Connected && e.Answered {
				continue
			}
			if e.Since = e.Since.Add(lost); e.Since.After(now) {
				e.Since = now
			}
			o.dirty = true
		}
	}
}

// sorted returns what list does, by name.
func (o *roster) sorted(all bool) []rotation.Member {
	ms := o.list(nil, all)
	slices.SortFunc(ms, byName)
	return ms
}

// list appends the members to ms. Candidates that were not let in yet hold nothing, and are not
// among them unless all is set.
func (o *roster) list(ms []rotation.Member, all bool) []rotation.Member {
	ms = slices.Grow(ms, len(o.members))
	for _, list := range o.members {
		for _, e := range list {
			if all || e.ready || e.Answered || !e.Connected {
				ms = append(ms, e.Member)
			}
		}
	}
	return ms
}

func byName(a, b rotation.Member) int {
	if c := strings.Compare(a.Node, b.Node); c != 0 {
		return c
	}
	return a.Nr - b.Nr
}

// letIn prepares the entries that asked since the last call for being stored, and returns them. A
// candidate will be sent this generation or a later one. Its time begins now, since it may have
// asked long ago, while the store was away.
func (o *roster) letIn(current uint64, now time.Time) (asked []*entry) {
	for e := range maps.Values(o.streams) {
		if e.asked {
			e.asked = false
			if !e.Answered {
				e.Floor, e.Since = current, now
			}
			asked = append(asked, e)
		}
	}
	return asked
}
