package rotation

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// roster is what one replica knows of the nodes of one scope. A stream that asked for the ring is a candidate until it accepts one; then
// it is a member. The scope's mutex guards it.
type roster struct {
	members map[string][]*entry // by node id, in the order of their numbers
	streams map[uint64]*entry   // those connected
	barred  map[uint64]bool     // streams that turned out to want a certificate
	highest uint64              // see Tally.Highest
	dirty   bool                // differs from what is stored
}

type entry struct {
	Member
	asked bool // joined since the roster was stored last
	ready bool // stands in the stored roster, and the ring was read again since: may be sent to

	ring   bool // its stream asks for a ring and nothing else: see Asked
	unsure bool // it says that it holds a ring, and is not believed: see Asked

	nth nth // its stream's, also when that has ended; zero: from before a restart

	// When one came with a ring, so that it was here before, and nobody was away whose place it could take: this is one place too many for its node if a stream turns out to
	// have ended before. It is the place's, whoever has it; zero: not so.
	stray time.Time
}

// nth says which of two streams of a node came later. Streams are numbered as they are served, and after a pause those of dead
// connections are served beside the living one, in any order: their connections tell. One connection's streams come in order.
type nth struct{ conn, stream uint64 }

func (n nth) after(other nth) bool {
	return cmp.Or(cmp.Compare(n.conn, other.conn), cmp.Compare(n.stream, other.stream)) > 0
}

func newRoster() *roster {
	return &roster{members: map[string][]*entry{}, streams: map[uint64]*entry{}, barred: map[uint64]bool{}}
}

// restore takes over what the replica stored before it stopped. Nobody is connected to it yet: those who were are away, from now on,
// since when they lost it is not known. It comes before the first join.
func (o *roster) restore(ms []Member, now time.Time) {
	for _, m := range ms {
		if m.Connected {
			m.Connected, m.Since = false, now
		}
		all := o.members[m.Node]
		i, twice := slices.BinarySearchFunc(all, m.Nr, func(e *entry, nr int) int { return e.Nr - nr })
		if !twice {
			o.members[m.Node] = slices.Insert(all, i, &entry{Member: m})
		}
	}
	o.dirty = o.dirty || len(ms) > 0
}

// join enters a stream that asked for the ring. A node that says it holds one is a member from the start, and back if it was away. What it holds
// is known only if that is believed.
func (o *roster) join(a Asked, current keysource.Ring, now time.Time) {
	stream, node, held := a.Stream, a.Node, a.Held
	if o.streams[stream] != nil || o.barred[stream] {
		return
	}
	e := &entry{Member: Member{Node: node, Connected: true, Since: now, Stream: stream}, asked: true, ring: a.Ring, nth: nth{a.Conn, stream}}
	if generation, ok := keysource.ParseRingVersion(held); ok {
		e.Answered, e.Brought = true, true
		switch {
		case generation > current.Generation:
			if believed(generation, current.Generation) {
				o.highest = max(o.highest, generation)
			}
		case !a.Believed: // its floor is unknown, and so 0, unless it is known from before
			e.unsure = true
		case generation < current.Generation || held == current.Version():
			e.Floor = generation
		} // else a ring of another lineage: likewise
	}
	if e.Answered && o.takeOver(e) {
		o.streams[stream] = e
		return
	}
	if e.Answered && slices.ContainsFunc(o.members[node], func(have *entry) bool { return have.Answered }) {
		e.stray = now
	}
	o.place(e)
	o.streams[stream] = e
	o.dirty = true
}

// strayFor is longer than it takes us to notice by our keepalive that a connection is dead.
const strayFor = time.Minute

// maxLead is how far ahead of the store another's word is believed. A store that lost writes is behind by what it lost, not by more than
// a fleet rotates in a century; the bound keeps a lying node, or a damaged backup, from using the numbers up.
const maxLead = 1 << 24

// believed: somebody's claim that a generation was handed out, where the store has reached another one.
func believed(claimed, stored uint64) bool {
	return claimed <= stored || claimed-stored < maxLead && claimed <= maxGeneration/2
}

// takeOver puts e in the place of the member of the same node that is away.
func (o *roster) takeOver(e *entry) bool {
	all := o.members[e.Node]
	i := slices.IndexFunc(all, func(have *entry) bool { return !have.Connected })
	if i < 0 {
		return false
	}
	e.Nr, e.stray = all[i].Nr, all[i].stray
	if e.unsure { // it has not been restarted, so it holds what it had accepted, or something later
		e.Floor = all[i].Floor
	}
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
}

// accepted notes that the stream accepted a generation. It returns the entry, or nil where the stream is not on the roster.
func (o *roster) accepted(stream, generation uint64) *entry {
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

// answered makes e a member. If it was none, the node restarted: the stream is what became of the member that is away.
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

// refused notes a refusal. A stream whose first answer it is wanted a certificate: it leaves the roster without a trace, and barred
// is true. But one that asks for a ring and nothing else is a node: some of its filter chains may have taken the ring.
func (o *roster) refused(stream, generation uint64, words string) (barred bool) {
	e := o.streams[stream]
	if e == nil {
		return o.barred[stream]
	}
	o.dirty = true
	if !e.Answered && !e.ring {
		o.barred[stream] = true
		o.remove(e)
		return true
	}
	o.answered(e)
	e.Refused, e.Words = generation, words
	return false
}

// hopeless notes that nothing helps a node that refuses the ring, and reports whether there is one.
func (o *roster) hopeless(node string) (known bool) {
	for _, e := range o.members[node] {
		if e.Connected && e.Refused != 0 && !e.Stuck {
			e.Stuck, known, o.dirty = true, true, true
		}
	}
	return known
}

// dropped notes that the stream lives and no longer wants the ring: the node serves without it.
func (o *roster) dropped(stream uint64) {
	if e := o.streams[stream]; e != nil {
		o.remove(e)
		o.dirty = true
	}
}

// closed notes the end of a stream: away, not gone. One that was never sent a ring leaves nothing behind. It reports whether the roster knew
// the stream.
func (o *roster) closed(stream uint64, now time.Time) bool {
	delete(o.barred, stream)
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
	o.succeed(e, now)
	return true
}

// succeed: e's stream has ended. A node notices a dead connection by its own keepalive, and may be back before we do, or back and gone: then a later stream of it has a place of
// its own, and takes e's. A candidate takes nobody's: any client can make a node open one.
func (o *roster) succeed(e *entry, now time.Time) {
	var next *entry
	for _, have := range o.members[e.Node] {
		if have.Answered && have.nth.after(e.nth) && (e.isStray(now) || have.isStray(now)) && (next == nil || have.nth.after(next.nth)) {
			next = have
		}
	}
	if next == nil {
		return
	}
	if e.stray.IsZero() {
		next.stray = time.Time{}
	}
	o.unplace(e)
	if e.Nr < next.Nr {
		o.unplace(next)
		o.place(next)
	}
}

func (e *entry) isStray(now time.Time) bool { return now.Sub(e.stray) < strayFor }

func (o *roster) remove(e *entry) {
	delete(o.streams, e.Stream)
	o.unplace(e)
}

func (o *roster) unplace(e *entry) {
	all := slices.DeleteFunc(o.members[e.Node], func(have *entry) bool { return have == e })
	if o.members[e.Node] = all; len(all) == 0 {
		delete(o.members, e.Node)
	}
}

// expire forgets the nodes whose lease has ended.
func (o *roster) expire(p Policy, now time.Time) {
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

// outage: nothing was heard of the other replicas from a moment until now. That time counts against nobody who may have come to one of them.
func (o *roster) outage(from, now time.Time) {
	lost := max(now.Sub(from), 0) // below 0: the store's clock was set back
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

// snapshot is list by name.
func (o *roster) snapshot(all bool) []Member {
	ms := o.list(nil, all)
	slices.SortFunc(ms, byName)
	return ms
}

// list appends the members to ms. Candidates that were not let in yet hold nothing and are left out unless all is set.
func (o *roster) list(ms []Member, all bool) []Member {
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

func byName(a, b Member) int {
	if c := strings.Compare(a.Node, b.Node); c != 0 {
		return c
	}
	return a.Nr - b.Nr
}

// letIn prepares the entries that asked since the last call for being stored, and returns them. What a candidate will be sent is this
// generation or a later one, and its time begins: it may have asked long ago, while the store was away.
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
