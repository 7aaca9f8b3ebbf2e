package xds

import (
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"google.golang.org/protobuf/types/known/anypb"
)

// Service is the gRPC service on which a stream came in.
type Service string

const (
	// ADS is the aggregated service: several resource types on one stream.
	ADS Service = "ads"
	// SDS is the secret discovery service: secrets only.
	SDS Service = "sds"
)

// Node is the peer of a stream. It does not change while the stream exists.
type Node struct {
	ID      string // what the node calls itself (core.Node.id)
	Cluster string // core.Node.cluster
	Agent   string // core.Node.user_agent_name, "envoy" for Envoy
	// Build is core.Node.user_agent_build_version, as "1.40.0", or else user_agent_version. It is
	// empty if the node says neither.
	Build string
	Kind  string // the value of [KindHeader] on the stream; empty if it had none
	// Port is the port to which clients connect ([MetadataPort]); 0 if the node does not say.
	Port uint16
	// Eager reports that the node says that each of its filter chains has a ring
	// ([MetadataEager]).
	Eager    bool
	Identity string // its identity as the transport proved it; empty on a plaintext stream
	// ValidFrom and ValidUntil are when the certificate is valid that proved the identity. They are
	// zero if none did.
	ValidFrom, ValidUntil time.Time

	Remote string // the peer's address; [Socket] or [LocalSocket] if it came over a unix socket
	Stream uint64 // a number that only this stream of the process has
	// Conn numbers the connections of the process in the order in which they were accepted
	// (server.Ordered).
	Conn    uint64
	Service Service // where the stream came in
}

// Values of [Node].Remote for a node that came over a unix socket. With LocalSocket its loopback
// addresses are known to be those of this process.
const (
	Socket      = "unix"
	LocalSocket = "unix:localhost"
)

// EdgeAgent is the [Node].Agent of the bundled edge proxy. It forgets what it refuses, so each of
// its ACKs counts.
const EdgeAgent = "lockstep-edge"

// KindHeader is the gRPC header by which a bootstrap says what a stream asks for (initial_metadata
// of the config source). Its only value is [KindRing].
const KindHeader = "x-lockstep-kind"

// KindRing is the [Node].Kind of a stream that asks for session ticket keys and for nothing else.
// If a client's server name makes Envoy open a stream, that comes from another config source,
// without the header.
const KindRing = "ring"

// These are the fields of core.Node.metadata by which a bootstrap says where its listener is:
// {lockstep: {port: 8443, eager: true}}. The port is for a proof that the node uses its ring,
// which connects to the node's own machine only. An eager node has no chain that fetches
// certificates on demand. So it does not unsubscribe from a name that is removed, and gets a
// stand-in at once.
const (
	MetadataKey   = "lockstep"
	MetadataPort  = "port"
	MetadataEager = "eager"
)

// State is what a server knows of a name.
type State uint8

const (
	// NotYet means that it is not known now. The node is sent nothing, and a wake-up will come.
	NotYet State = iota
	// Absent means that there is certainly no such resource for this node. A delta node is told so
	// at once.
	Absent
	// Present means that there is a resource to send.
	Present
)

// Resource is one resource as it is sent. All streams share it by its pointer. It is never copied,
// and never changed once a Lookup has returned it. Its bytes are encoded once.
type Resource struct {
	Name    string // the name exactly as it was asked for
	Version string // never empty
	Body    *anypb.Any
	// Group is for types whose names clients choose. Names of one group are bounded together,
	// since clients can invent them. It is empty if the resource has no group.
	Group string
	// Until is when the resource may be used no longer. Zero means never. Only a node that asks
	// again then is told (see TTL).
	Until time.Time
	// StandIn reports that it takes the place of a resource that does not exist. A node that takes
	// it has accepted nothing.
	StandIn bool

	delta, sotw atomic.Pointer[[]byte]                    // see encode.go
	variants    [2]atomic.Pointer[weak.Pointer[Resource]] // see Encoded
}

const (
	ttlMargin = time.Second // a TTL ends so much before the resource does
	// ttlExpired is the TTL of a resource that has ended and has no successor. The node asks again
	// then.
	ttlExpired = time.Minute
)

// TTL returns how long a node may use r if it is sent now. It is less than what is left of r, in
// whole seconds unless little is left. Zero means without end.
func (r *Resource) TTL(now time.Time) time.Duration {
	if r.Until.IsZero() {
		return 0
	}
	left := r.Until.Sub(now)
	switch {
	case left <= 0:
		return ttlExpired
	case left < 10*ttlMargin:
		return max(left-min(ttlMargin, left/2), time.Millisecond).Truncate(time.Millisecond)
	}
	return (left - ttlMargin).Truncate(time.Second)
}

// Resources is what a server streams. No method blocks, and all are safe for concurrent use.
type Resources interface {
	// Lookup returns what node may have under name now. The resource is nil unless the state is
	// Present.
	Lookup(node Node, name string) (*Resource, State)

	// Watch puts name into mailbox whenever the result of Lookup for it and this node may have
	// changed. It does so until Unwatch is called with the same arguments. A change may be
	// announced more than once, or without need. None is left out. A stream watches a name once.
	Watch(node Node, name string, mailbox *Mailbox)
	Unwatch(node Node, name string, mailbox *Mailbox)
}

// Wildcard is a [Resources] so small that a node may subscribe to all of it, as Envoy does to its
// listeners. All returns the names. It does not block, and always returns the same ones. A delta
// stream that subscribes to everything is subscribed to each of them.
type Wildcard interface {
	Resources
	All() []string
}

// Referring is a [Resources] whose resources name others, of another type, to which the node
// subscribes: a listener names certificates. Brings lists the names in a version of a resource
// that are not in the version before. It does not block.
//
// A node that takes such a resource may begin a second watch on something that it has already. It
// sends no request for that, since its subscription does not change. So it is sent again what it
// was sent before the resource.
//
// Source: https://github.com/envoyproxy/envoy/issues/47309
type Referring interface {
	Resources
	Brings(before, version string) []string
}

// Kind is what happened to a resource on a stream.
type Kind uint8

const (
	Asked Kind = iota // the node subscribed; Version is what it says it holds, or empty
	Sent              // a version was sent
	// Accepted means that the node ACKed a version, and that this counts. It also means that the
	// node said, when it connected, that it holds the current version.
	Accepted
	Refused // the node NACKed a version; Words is its reason
	// Cured means that the node took what was sent in place of a version that it had refused.
	// Version is what it took.
	Cured
	Stuck   // the node refuses every remedy as well; Words is its reason
	Dropped // the node unsubscribed
	Closed  // the stream ended, and all subscriptions with it; Name is empty

	Kinds = int(Closed) + 1
)

// String returns the kind as metrics and logs name it.
func (k Kind) String() string {
	return [...]string{"asked", "sent", "accepted", "refused", "cured", "stuck", "dropped", "closed"}[k]
}

// Event is something that happened on a stream. Events of one stream come in order. There is no
// event when a node is told that a name is absent. Closed comes once, with neither type nor name.
type Event struct {
	Node    Node
	Type    string // the resource's type URL
	Name    string
	Version string // of the content, without the mark (see [Content])
	Kind    Kind
	// Believed belongs to Asked. It reports that the node certainly holds the version that it says
	// it holds.
	Believed bool
	Words    string // with Refused and Stuck the node's own words, with Closed the reason
	At       time.Time
	// First belongs to Sent. It reports that this is the first answer to a name that the node
	// asked for on demand.
	First bool
	// Took is, with Accepted, for how long the node had the version before it said so. With First
	// it is for how long the node waited. Otherwise it is 0.
	Took time.Duration
}

// Mailbox is a set of changed names, with a signal of capacity 1. So a wake-up costs as much as
// what changed, and waking a busy stream twice costs it one look. The zero value is not usable;
// see [NewMailbox].
type Mailbox struct {
	signal chan struct{}
	wake   func() // called instead of the signal

	mu    sync.Mutex
	names []string
	seen  map[string]bool // nil while there are so few names that a scan is cheaper
}

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox { return &Mailbox{signal: make(chan struct{}, 1)} }

// NewWakingMailbox returns an empty mailbox without a signal. It calls wake instead, whenever the
// first name comes into it. wake must not block.
func NewWakingMailbox(wake func()) *Mailbox { return &Mailbox{wake: wake} }

// Signal is ready when there is something to take. It belongs to the one goroutine that calls
// Take.
func (m *Mailbox) Signal() <-chan struct{} { return m.signal }

// scanBelow is the number of names up to which a duplicate is found by a scan. Most mailboxes hold
// one name.
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

// Take empties the mailbox and returns the names.
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
