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
	vary    xds.Varying // src, where this node keeps what it refuses; nil: each of its ACKs counts
	names   map[string]*entry
	tail    []byte // the response field type_url, encoded
	demand  bool   // nodes ask as clients come: see Config.OnDemand

	list  []string // SotW: the names of the last request
	round uint32   // SotW: numbers the lists
}

// entry is one name that the node subscribed to. Streams hold up to 200 000: keep it small.
type entry struct {
	sub      *subscription
	name     string
	sent     string     // the content last sent; with claimed, the version that the node says it holds
	accepted string     // the content last accepted, by an ACK that counts
	body     *anypb.Any // what was delivered last, if the node keeps what it refuses; nil: nothing, or it is not known
	sentAt   int64      // Unix nanoseconds; 0: never
	refused  *refusal
	toldAt   int64  // Unix nanoseconds: when it was evicted; 0 once nobody waits for what the node does then
	round    uint32 // SotW: the last list that had the name

	unknown bool // what was delivered last is not known: see worth.go
	half    bool // the first of two encodings was sent, and its answer does not count
	second  bool // that answer has come: the second is due
	doubted bool // it accepted something, or claims so, and it is not known whether it uses that: see worth.go
	shared  bool // it is in a response with others that was not answered: until then nothing else is sent

	left    bool // it was removed to see whether the node lets go of it
	holdsUp bool // what no longer names it waits until it is cured

	due     bool // in the queue of what to look at
	again   bool // answer even if nothing changed
	alone   bool // shares no response, until it is accepted: it was in one that was refused
	claimed bool // sent is the node's claim, not yet compared
	removed bool // the node was told that the name is absent
	gone    bool // unsubscribed: acknowledgements that come late mean nothing
	held    bool // in the turnover's order
	evicted bool // removed, although it is there, or refused a place; the node unsubscribes, or asks again
	pinned  bool // it did neither: something other than a client's handshake wants it

	group *group // where it has a place; nil: in none
	place *list.Element
}

// refusal is the last version of a name that the node refused, and its reason.
type refusal struct {
	version string
	words   string
	since   time.Time // of the first refusal of this version

	wait  time.Duration // before the next try
	retry time.Time     // when the version may be sent again
	index int           // in the heap of parked entries; -1: not parked

	stage stage
	try   int // remedies that did not help
}

// stage is how far the cure of a node that keeps what it refuses has come.
type stage uint8

const (
	refusing stage = iota // there is no remedy, or none is left: the version itself is offered again
	ill                   // a remedy is due
	treated               // a remedy was sent
	cured                 // the node took the remedy: nothing is sent until the content is another one
	stuck                 // as refusing, and every remedy was tried
)

// parked is a heap of entries with a refused version, by the time of the next try.
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
