// Package events wakes those who should look again, and names what happened.
//
// Its rules:
//
//   - An event has names and versions, never a secret.
//   - Whoever gets an event reads the state again. So events may be lost, doubled or reordered.
//   - Losing all of them costs one refresh interval, and nothing else.
//   - Fields and kinds may be added. None changes its meaning, since subscribers read the JSON.
//   - An event with a Text is also for people: it is a line of the record of what happened.
//
// Package events/nats carries events between processes. Package events/journal keeps those that
// have a Text.
package events

import (
	"strings"
	"time"
)

// Kind is what happened.
type Kind string

const (
	Cert Kind = "cert" // a certificate was added, changed or removed
	// Host means that a host was pinned or unpinned, which decides whether it gets a filter chain
	// of its own.
	Host Kind = "host"
	// Cured means that a node took something else in place of a certificate that it had refused.
	// Its ring is to be offered again.
	Cured Kind = "cured"
	// Refused means that a node refused a ring. Its certificates are to be offered again.
	Refused Kind = "refused"
	// Rotation means that a scope's rollout took a step, mostly with another ring.
	Rotation Kind = "rotation"
)

// These kinds wake nobody. They say what happened, for people.
const (
	NodeConnected Kind = "node-connected" // its first stream at a replica
	NodeAway      Kind = "node-away"      // its last stream at a replica ended
	NodeGone      Kind = "node-gone"      // it was away from all replicas for longer than its lease
	NodeRefused   Kind = "node-refused"   // it refused what Name says
	NodeCured     Kind = "node-cured"     // it took something else in the place of that
	NodeStuck     Kind = "node-stuck"     // it refuses every remedy as well
	NodeDenied    Kind = "node-denied"    // the policy denies it what Name says, or all
	// NodeLetGo means that a replica sent its nodes to the others, since it was cut off from the
	// store.
	NodeLetGo     Kind = "node-let-go"
	NodeForgotten Kind = "node-forgotten" // an operator took a gone node off the list

	CertTaken    Kind = "cert-taken"    // from the directory, new or changed
	CertRefused  Kind = "cert-refused"  // the files in the directory cannot be used
	CertRemoved  Kind = "cert-removed"  // its folder has left the directory
	CertHeld     Kind = "cert-held"     // it left the directory with many others, and is held back
	CertBack     Kind = "cert-back"     // it is no longer held back
	CertExpiring Kind = "cert-expiring" // it is near its end

	// ListenerChanged means that another template of the listener came into force.
	ListenerChanged Kind = "listener-changed"

	Policy      Kind = "policy"       // another policy came into force
	Settings    Kind = "config"       // a replica runs with another configuration than before
	Operator    Kind = "operator"     // somebody did what has no kind of its own
	Problem     Kind = "problem"      // a replica is not well
	ProblemOver Kind = "problem-over" // what it complained of is over

	// These are what an operator did. By is who.
	ActionRefused Kind = "action-refused" // what Name says, a request, was refused
	ProblemAcked  Kind = "problem-acknowledged"
	ProblemUnack  Kind = "problem-unacknowledged"
	AuditMended   Kind = "audit-mended"

	AuditDown Kind = "audit-down" // a sink of the audit log cannot be written
	AuditBack Kind = "audit-back" // it can be written again

	ReplicaStarted  Kind = "replica-started"
	ReplicaStopping Kind = "replica-stopping"
	ReplicaAway     Kind = "replica-away" // another replica is not heard of any more
	ReplicaBack     Kind = "replica-back"

	// Dropped means that more happened than is written down one by one. Text counts it.
	Dropped Kind = "dropped"
)

// Wakes reports whether somebody looks again when an event of the kind comes.
func (k Kind) Wakes() bool {
	switch k {
	case Cert, Host, Cured, Refused, Rotation:
		return true
	}
	return false
}

// Is reports whether k is the kind that was asked for, or one of that group: node-away is asked for
// by its name, by "node" and by "away".
func (k Kind) Is(asked string) bool {
	s := string(k)
	return s == asked || strings.HasPrefix(s, asked+"-") || strings.HasSuffix(s, "-"+asked)
}

// Event is one thing that happened. Subscribers of [Subjects] get its JSON. Fields may be added.
// None changes its meaning.
type Event struct {
	Kind  Kind   `json:"kind"`
	Scope string `json:"scope,omitempty"` // rotation
	// Name is the server name with cert and host, and the node with cured and refused. With the
	// kinds that wake nobody it is the secret, the host, the file or the replica.
	Name string `json:"name,omitempty"`
	// Node is the id of the node, with the kinds that begin with node.
	Node string `json:"node,omitempty"`
	// Text says in words what happened. It is empty if the event only wakes.
	Text string `json:"text,omitempty"`
	// Replica is the one at which it happened, with a Text.
	Replica string `json:"replica,omitempty"`
	// Version is that of the ring or certificate, as nodes get it. It is empty if that is gone.
	Version string `json:"version,omitempty"`
	// Phase is the step of a rotation, as in the history: distributing, promoting, done, retired,
	// …
	Phase    string `json:"phase,omitempty"`
	Rotation uint64 `json:"rotation,omitempty"` // rotation: its number within the scope
	Why      string `json:"why,omitempty"`      // for people
	By       string `json:"by,omitempty"`       // who asked; with cured and refused the replica
	// Audit is the line of the audit log that records the change, with rotation.
	Audit string    `json:"audit,omitempty"`
	At    time.Time `json:"at"`
	// Hosts are the server names that an event without Name stands for, if there are several. Only
	// the record has them, and not who subscribes.
	Hosts Hosts `json:"hosts,omitempty"`
}

// Subjects matches the subject of every event.
const Subjects = "lockstep.events.>"

// Subject returns the subject under which the event is published: lockstep.events.<kind>.<scope>,
// with "-" if there is no scope. Bytes that a NATS subject cannot have become "_". The event
// itself has the scope unchanged.
func (e Event) Subject() string {
	return "lockstep.events." + token(string(e.Kind)) + "." + token(e.Scope)
}

// Publisher publishes events. Publish never fails: what cannot be published now is dropped. It is
// safe for concurrent use.
type Publisher interface {
	Publish(e Event)
}

// token returns s as one token of a subject.
func token(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, s)
}
