package lds

import (
	"errors"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// TypeURL is the xDS resource type of listeners.
const TypeURL = "type.googleapis.com/envoy.config.listener.v3.Listener"

// Cluster is the name that a node's bootstrap must give to the cluster of lockstepd. Rings come
// over it.
const Cluster = "lockstep"

// ErrBadTemplate means that no listener can be made of the template. The text says what must
// change in it.
var ErrBadTemplate = errors.New("bad listener template")

// Options are what a chain needs besides the template.
type Options struct {
	Scope          string        // the scope of the ticket keys
	TicketLifetime time.Duration // of the scope, in whole seconds; 0 if it is not known yet
	// ClientCerts is what the scope declares: "none", or the SHA-256 (64 hex digits, lower case) of
	// each CA by which its listeners verify client certificates, with commas between them. "" means
	// "none", too. A template with another CA is refused, since a ticket carries the client's
	// verification along.
	ClientCerts string
}

// Policy says what a node may have, by the identity that its transport proved. Its methods never
// block.
type Policy interface {
	AllowsScope(identity, scope string) bool
	AllowsName(identity string, n keysource.Name) bool
}
