// Package lds serves Envoy its listener: the operator's template, with a filter chain for each
// eager host and an on-demand chain for the rest.
//
// Envoy resumes no session in a chain that fetches certificates on demand. It binds a ticket to
// the names, the issuer and the server names of its chain. So each busy host gets a chain of its
// own, with its certificate by ADS, the ring of the scope by the SDS service, and tickets. Every
// other name goes to one chain without tickets.
//
// Envoy updates a listener in place if only filter chains differ. It leaves alone those chains
// whose bytes are the same, with their connections and tickets. So a chain is encoded once, from
// its host and the template alone, and does not change until the template does.
//
// Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/lds,
// https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/listeners/listener_filters
// (filter chain only update)
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
	TicketLifetime time.Duration // of the scope, in whole seconds
	// ClientCerts is what the scope declares: "none", which is also the meaning of "", or the
	// SHA-256 (64 hex digits, lower case) of the CA by which its listeners verify client
	// certificates. A template that differs is refused, since a ticket carries the client's
	// verification along.
	ClientCerts string
}

// Policy says what a node may have, by the identity that its transport proved. Its methods never
// block.
type Policy interface {
	AllowsScope(identity, scope string) bool
	AllowsName(identity string, n keysource.Name) bool
}
