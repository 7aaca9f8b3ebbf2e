// Package lds serves Envoy its listener: the operator's template, with a filter chain for each
// eager host and an on-demand chain for the rest.
//
// Envoy resumes no session in a chain that fetches certificates on demand. It binds a ticket to
// the certificate's names and issuer, and to the chain's server names. So each busy host gets a
// chain of its own. Its certificate comes by ADS, the scope's ring by the SDS service, and tickets
// are on. Every other name goes to one chain without tickets.
//
// The rules of this room:
//
//   - It sees names only, never a certificate or a key.
//   - One host's change touches no other. Envoy leaves chains alone whose bytes are the same, with
//     their connections and tickets. So a chain's bytes follow from its host and the template
//     alone. They are encoded once and kept, and the listener is their concatenation.
//   - Nothing is served before the pins were read, and what cannot be read changes nothing. A
//     listener without its chains would end tickets.
//   - Changes wait for 0.5 s of quiet, 2 s at most. Envoy looks at every chain on each update:
//     with 2000 hosts that takes 0.4 s of its main thread.
//   - A chain asks for chain:<host>, not for <host>. Envoy keeps one watch for each kind of use of
//     a secret. Where two watch one name on ADS, the second one gets nothing until it is sent
//     again (envoyproxy/envoy#47309). A client can send that name as its server name, too. So what
//     a new chain names is sent again when the node has taken the listener ([xds.Referring]).
//   - A chain waits 10 s for its certificate, since it must not hold up others' changes. It waits
//     without end for the ring. A node that may not have the ring gets the on-demand chain alone.
//   - A server name that is not UTF-8 finds no chain and is closed at once (match.go). Envoy would
//     keep such a name until its on-demand chain ends, some 5 KB each. The matcher takes the place
//     of the chains' server names, so it names the eager hosts. Envoy takes a change of it in
//     place.
//   - A template is read as Envoy reads it: YAML through JSON, strictly, with the rules of the
//     protos, down into every extension. Each extension that go-control-plane has is linked
//     (types.go).
//   - Listeners are cached by the set of hosts, not by node, up to 64 MiB. Beyond that each is put
//     together anew. Which hosts a version has is remembered for the last two changes, and for
//     older ones while there is room. A node with a version beyond that is served, and what it
//     serves is not known.
//
// Who still serves a host that was unpinned: the nodes whose last accepted version has its chain,
// and those whose stream ended less than a lease ago.
//
// Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/lds,
// https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/listeners/listener_filters
// (filter chain only update)
package lds
