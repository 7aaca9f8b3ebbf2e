package server

import (
	"container/list"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/xds"
)

// subscription is what a stream asked for of one type.
type subscription struct {
	typeURL string
	src     xds.Resources
	// vary is src if this node keeps what it refuses; nil: each ACK of the node counts
	vary   xds.Varying
	names  map[string]*entry
	tail   []byte // the response field type_url, encoded
	demand bool   // demand reports that clients choose the names: see Config.OnDemand

	list  []string // SotW: the names of the last request
	round uint32   // SotW: the number of the last list
}

// entry is one name that the node subscribed to. A stream holds up to 200 000 of them, so keep it
// small.
type entry struct {
	sub  *subscription
	name string
	// sent is the content that was sent last. While claimed is set, it is the version that the
	// node says it holds.
	sent string
	// accepted is the content that the node accepted last, by an ACK that counts.
	accepted string
	// body is what was delivered last, if the node keeps what it refuses. It is nil if nothing
	// was, or if it is not known.
	body    *anypb.Any
	sentAt  int64 // Unix nanoseconds; 0: never
	refused *refusal
	seat    *seat  // nil: it has none of what stands there
	round   uint32 // SotW: the last list that contained the name

	// The next four belong to a node that keeps what it refuses: see encoding.go. bodyUnknown
	// reports that it is not known what was delivered last.
	bodyUnknown bool
	// firstSent reports that the first of two encodings was sent. The answer to it does not count.
	firstSent bool
	// secondDue reports that this answer has come, and the second encoding is to be sent.
	secondDue bool
	// inDoubt reports that it is not known whether the node uses what it accepted, or claims to
	// have accepted.
	inDoubt bool
	// shared reports that the entry is in a response with others that was not answered yet.
	// Nothing else is sent for it until then.
	shared bool

	// withdrawn reports that the name was removed to see whether the node unsubscribes from it.
	withdrawn bool
	// blocks reports that a resource which no longer names this entry waits until the entry is
	// cured.
	blocks bool

	due   bool // in machine.due
	again bool // to be answered even if nothing changed
	// alone reports that the entry shares no response with others until it is accepted. It was in
	// a shared response that was refused.
	alone   bool
	claimed bool // sent is the node's claim, and was not compared yet
	removed bool // the node was told that the name is absent
	gone    bool // the node unsubscribed: late acknowledgements mean nothing
	held    bool // in eviction.order
	// evicted reports that the name was called absent although it is present. The node
	// unsubscribes from it, or asks for it again.
	evicted bool
	// pinned reports that the node did neither: something other than a client's handshake wants
	// the name. It is never evicted again.
	pinned bool
}

// seat is what an entry needs that can be evicted. Most entries cannot, so they have none.
type seat struct {
	group *group // nil: in none
	place *list.Element
	// evictedAt is when the entry was evicted, in Unix nanoseconds. It is 0 once nobody waits for
	// the node's reaction.
	evictedAt int64
}

// takeSeat returns the seat of e, which has one afterwards.
func (e *entry) takeSeat() *seat {
	if e.seat == nil {
		e.seat = &seat{}
	}
	return e.seat
}

// group returns the group that e is in, or nil.
func (e *entry) group() *group {
	if e.seat == nil {
		return nil
	}
	return e.seat.group
}

// evictedAt is [seat].evictedAt, 0 without a seat.
func (e *entry) evictedAt() int64 {
	if e.seat == nil {
		return 0
	}
	return e.seat.evictedAt
}

// refusal is the last version of a name that the node refused, and its reason.
type refusal struct {
	version string
	words   string
	since   time.Time // when this version was refused first

	wait  time.Duration // before the next try
	retry time.Time     // when the version may be sent again
	index int           // in the heap of parked entries; -1: not parked

	stage stage
	try   int // how many remedies did not help
}

// stage is the progress of the cure of a node that keeps what it refuses.
type stage uint8

const (
	refusing   stage = iota // there is no remedy: the version itself is offered again
	remedyDue               // a remedy is due
	remedySent              // a remedy was sent
	cured                   // the node took the remedy; nothing is sent until the content changes
	stuck                   // every remedy was refused; otherwise as refusing
)

// parked is a heap of entries whose version was refused, by the time of the next try.
type parked []*entry

func (p parked) Len() int           { return len(p) }
func (p parked) Less(i, j int) bool { return p[i].refused.retry.Before(p[j].refused.retry) }
func (p parked) Swap(i, j int) {
	p[i], p[j] = p[j], p[i]
	p[i].refused.index, p[j].refused.index = i, j
}

func (p *parked) Push(x any) {
	e := x.(*entry)
	e.refused.index = len(*p)
	*p = append(*p, e)
}

func (p *parked) Pop() any {
	old := *p
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*p = old[:len(old)-1]
	e.refused.index = -1
	return e
}
