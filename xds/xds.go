package xds

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// Service is the gRPC service over which a stream came in.
type Service string

const (
	// ADS is the aggregated service: several resource types on one stream.
	ADS Service = "ads"
	// SDS is the secret discovery service: secrets only.
	SDS Service = "sds"
)

// Node is who is at the other end of a stream. It does not change while the stream lives.
type Node struct {
	ID       string  // what the node says of itself (core.Node.id)
	Cluster  string  // core.Node.cluster
	Agent    string  // core.Node.user_agent_name, "envoy" for Envoy
	Build    string  // core.Node.user_agent_build_version as "1.40.0"; empty if the node does not say
	Kind     string  // the value of [KindHeader] that the stream came with; empty: it came with none
	Port     uint16  // where it says that its clients connect ([MetadataPort]); 0: it does not say
	Eager    bool    // it says that each of its filter chains has a ring ([MetadataEager])
	Identity string  // the peer's identity as the transport proved it; empty on a plaintext stream
	Remote   string  // the peer's address
	Stream   uint64  // numbers the streams of this process
	Conn     uint64  // numbers their connections in the order in which they came (server.Ordered)
	Service  Service // where the stream came in
}

// EdgeAgent is the [Node].Agent of the bundled edge proxy. It forgets what it refuses, so each of its ACKs counts.
const EdgeAgent = "lockstep-edge"

// KindHeader is the gRPC header by which a bootstrap says what a stream asks for (initial_metadata of the
// config source). Its one value is [KindRing].
const KindHeader = "x-lockstep-kind"

// KindRing is the [Node].Kind of a stream that asks for session ticket keys, and for nothing else. A
// stream that a client's server name makes Envoy open comes from another config source, without it.
const KindRing = "ring"

// A bootstrap says in core.Node.metadata where its listener is: {lockstep: {port: 8443, eager: true}}. The port is for a
// proof that the node uses its ring, which connects to no other machine than the node's own. A node that is eager has no
// chain that fetches certificates on demand, so it lets go of no name that is removed: it gets a stand-in at once.
const (
	MetadataKey   = "lockstep"
	MetadataPort  = "port"
	MetadataEager = "eager"
)

// State says what a server knows of a name.
type State uint8

const (
	// NotYet: not known now; the node is sent nothing and a wake-up will come.
	NotYet State = iota
	// Absent: there is no such resource for this node, and that is certain. A delta node is told so at once.
	Absent
	// Present: there is a resource to send.
	Present
)

// Resource is one resource as it is sent. It is shared by all streams through its pointer, never changed once a Lookup has
// returned it, and never copied; its bytes are encoded once.
type Resource struct {
	Name    string // the name that was asked for, to the letter
	Version string // never empty
	Body    *anypb.Any
	Group   string    // where clients choose the names: what is bounded together, since they can invent names of it; empty: it is of none
	Until   time.Time // when its use ends, by itself; zero: never. Only a node that asks again when it does is told (see TTL)
	StandIn bool      // it takes the place of a resource that there is not: a node that takes it has accepted nothing

	delta, sotw atomic.Pointer[[]byte] // see encode.go
}

const (
	ttlMargin = time.Second // by which a TTL ends before the resource does
	ttlOver   = time.Minute // of a resource that has ended, and for which there is no other: the node asks again
)

// TTL is how long a node may use r that is sent to it now: less than what is left of it, in whole seconds unless it is nearly over. Zero: without end.
func (r *Resource) TTL(now time.Time) time.Duration {
	if r.Until.IsZero() {
		return 0
	}
	left := r.Until.Sub(now)
	switch {
	case left <= 0:
		return ttlOver
	case left < 10*ttlMargin:
		return max(left-min(ttlMargin, left/2), time.Millisecond).Truncate(time.Millisecond)
	}
	return (left - ttlMargin).Truncate(time.Second)
}

// Resources is what a server streams. No method blocks, and all are safe for concurrent use.
type Resources interface {
	// Lookup returns what node may have under name now. The resource is nil unless the state is Present.
	Lookup(node Node, name string) (*Resource, State)

	// Watch puts name into box whenever what Lookup returns for it and this node may have changed, until Unwatch is called with
	// the same arguments. A change may be announced more than once, or without need; none is left out. A stream watches a name once.
	Watch(node Node, name string, box *Mailbox)
	Unwatch(node Node, name string, box *Mailbox)
}

// Wildcard is a [Resources] so small that a node may subscribe to all of it, as Envoy does to its listeners. All returns the names; it does not
// block, and always returns the same ones. A delta stream that subscribes to everything is subscribed to each of them.
type Wildcard interface {
	Resources
	All() []string
}

// Referring is a [Resources] whose resources name others, of another type, which the node subscribes to: a listener names certificates. Brings lists
// the names in a version of a resource that are not in the one before; it does not block.
//
// A node that takes such a resource may begin a second watch on something that it has already, and send no request for it, since its subscription
// stays the same. So it is sent again what it was sent before the resource. Source: https://github.com/envoyproxy/envoy/issues/47309
type Referring interface {
	Resources
	Brings(before, version string) []string
}

// Kind is what happened to a resource on a stream.
type Kind uint8

const (
	Asked    Kind = iota // the node subscribed; Version is what it says it holds already, or empty
	Sent                 // a version was sent
	Accepted             // the node ACKed a version, and that counts; or it reported on connecting that it holds the current one
	Refused              // the node NACKed a version; Words is its reason
	Cured                // the node took what was sent in the place of a version that it had refused; Version is what it took
	Stuck                // the node refuses every remedy as well; Words is its reason
	Dropped              // the node unsubscribed
	Closed               // the stream ended: all that it asked for is dropped; Name is empty

	Kinds = int(Closed) + 1
)

// String names the kind as metrics and logs do.
func (k Kind) String() string {
	return [...]string{"asked", "sent", "accepted", "refused", "cured", "stuck", "dropped", "closed"}[k]
}

// Event tells that something happened on a stream. Events of one stream come in order. What a node is told of a name that is
// absent makes no event; Closed comes once, with neither type nor name.
type Event struct {
	Node    Node
	Type    string // the resource's type URL
	Name    string
	Version string // of the content: without the mark (see [Content])
	Kind    Kind
	// Believed says of the version that a node brought along, with Asked, that it is certain to hold it.
	Believed bool
	Words    string // the node's own words, with Refused; for Closed: why
	At       time.Time
}

// Mailbox is a set of changed names and a signal of capacity 1: a wake-up costs as much as what changed, and waking a busy
// stream twice costs it one look. The zero value is not usable; see [NewMailbox].
type Mailbox struct {
	signal chan struct{}
	wake   func() // in the place of the signal

	mu    sync.Mutex
	names []string
	seen  map[string]bool // only while there are more names than are worth a scan
}

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox { return &Mailbox{signal: make(chan struct{}, 1)} }

// NewWakingMailbox returns an empty mailbox that has no signal and calls wake instead, whenever the first name comes into it. wake must not block.
func NewWakingMailbox(wake func()) *Mailbox { return &Mailbox{wake: wake} }

// Signal is ready when there is something to take. It belongs to the one goroutine that calls Take.
func (m *Mailbox) Signal() <-chan struct{} { return m.signal }

// scanBelow is the number of names up to which a duplicate is found by scanning; most mailboxes hold one.
const scanBelow = 8

// Put adds a name. It never blocks.
func (m *Mailbox) Put(name string) {
	m.mu.Lock()
	first := len(m.names) == 0
	if !m.has(name) {
		m.names = append(m.names, name)
		if m.seen != nil {
			m.seen[name] = true
		} else if len(m.names) > scanBelow {
			m.seen = make(map[string]bool, 2*len(m.names))
			for _, n := range m.names {
				m.seen[n] = true
			}
		}
	}
	m.mu.Unlock()
	switch {
	case m.wake == nil:
		select {
		case m.signal <- struct{}{}:
		default:
		}
	case first:
		m.wake()
	}
}

// Take empties the mailbox.
func (m *Mailbox) Take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := m.names
	m.names, m.seen = nil, nil
	return names
}

func (m *Mailbox) has(name string) bool {
	if m.seen != nil {
		return m.seen[name]
	}
	for _, n := range m.names {
		if n == name {
			return true
		}
	}
	return false
}
