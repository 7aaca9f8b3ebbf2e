// Package events wakes those who should look again.
//
// Its rules:
//
//   - An event has names and versions, never a secret.
//   - Whoever gets an event reads the state again. So events may be lost, doubled or reordered.
//   - Losing all of them costs one refresh interval, and nothing else.
//   - Fields and kinds may be added. None changes its meaning, since subscribers read the JSON.
//
// Package events/nats carries events between processes.
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

// Event is one thing that happened. Subscribers of [Subjects] get its JSON. Fields may be added.
// None changes its meaning.
type Event struct {
	Kind  Kind   `json:"kind"`
	Scope string `json:"scope,omitempty"` // rotation
	// Name is the server name with cert and host, and the node with cured and refused.
	Name string `json:"name,omitempty"`
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
