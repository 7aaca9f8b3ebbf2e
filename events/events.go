// Package events wakes those who should look again. An event carries names and versions, never a secret, and whoever gets one re-reads
// the state: events may be lost, doubled or reordered, and losing all of them costs one refresh interval and nothing else.
//
// Package events/nats carries them between processes.
package events

import (
	"strings"
	"time"
)

// Kind is what happened.
type Kind string

const (
	Cert     Kind = "cert"     // a certificate came, changed or went
	Host     Kind = "host"     // a host was pinned or unpinned: what gets a filter chain of its own
	Cured    Kind = "cured"    // a node took something else in the place of a certificate that it had refused: its ring is to be offered again
	Refused  Kind = "refused"  // a node refused a ring: its certificates are to be offered again
	Rotation Kind = "rotation" // a scope's rollout took a step, and mostly has another ring with it
)

// Event is one thing that happened. Its JSON is what subscribers of [Subjects] get; fields may be added, none changes its meaning.
type Event struct {
	Kind     Kind      `json:"kind"`
	Scope    string    `json:"scope,omitempty"`    // rotation
	Name     string    `json:"name,omitempty"`     // cert, host: the server name; cured, refused: the node
	Version  string    `json:"version,omitempty"`  // of the ring or certificate, as nodes get it; empty: it is gone
	Phase    string    `json:"phase,omitempty"`    // rotation: the step, as in the history: distributing, promoting, done, retired, …
	Rotation uint64    `json:"rotation,omitempty"` // rotation: its number within the scope
	Why      string    `json:"why,omitempty"`      // for people
	By       string    `json:"by,omitempty"`       // who asked; cured, refused: the replica
	Audit    string    `json:"audit,omitempty"`    // rotation: the line of the audit log that told of the change
	At       time.Time `json:"at"`
}

// Subjects matches the subject of every event.
const Subjects = "lockstep.events.>"

// Subject is where the event is published: lockstep.events.<kind>.<scope>, with "-" where there is no scope. Bytes that a NATS subject
// cannot hold become "_"; the event itself has the scope as it is.
func (e Event) Subject() string {
	return "lockstep.events." + token(string(e.Kind)) + "." + token(e.Scope)
}

// Publisher announces events. Publish fails nobody: what cannot be announced now is dropped. Safe for concurrent use.
type Publisher interface {
	Publish(e Event)
}

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
