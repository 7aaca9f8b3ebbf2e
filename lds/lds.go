package lds

import (
	"errors"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// TypeURL is the xDS resource type of listeners.
const TypeURL = "type.googleapis.com/envoy.config.listener.v3.Listener"

// Cluster is the name that the bootstrap of a node must give to the cluster that leads to lockstepd: rings come over it.
const Cluster = "lockstep"

// ErrBadTemplate: no listener can be made of the template; the text says what in it must change.
var ErrBadTemplate = errors.New("bad listener template")

// Options are what a chain needs besides the template.
type Options struct {
	Scope          string        // whose ticket keys
	TicketLifetime time.Duration // the scope's, in whole seconds
	// ClientCerts is what the scope declares: "none", which "" is too, or the SHA-256 (64 hex digits, lower case) of the CA that its listeners verify client
	// certificates with. A template of another kind is refused: a ticket carries the client's verification along.
	ClientCerts string
}

// Policy says what a node may have, by the identity that its transport proved. Its methods never block.
type Policy interface {
	AllowsScope(identity, scope string) bool
	AllowsName(identity string, n keysource.Name) bool
}
