// Package keysource is the page of nouns: what a secret is called, what it is made of, and where
// it comes from.
//
// Everything that reaches a node is a [Certificate], found under its server name through a
// [Source], or a [Ring] of session ticket keys, which belongs to a scope. Both are checked at the
// border where they enter: a file, the API, the store. Then they are passed on as values that
// nobody changes.
//
// The rules of this room:
//
//   - Everything imports it, so it imports nothing of the project.
//   - No certificate is sent that Envoy or every client refuses. rules.go has the rules.
//     test/corpus compares them with a real Envoy and real clients.
//   - [ServerName] makes one name of all spellings. It takes the prefixes off that are ours:
//     chain: of a listener's chain, and sds:// of Istio.
//   - [ResumptionContext] is what Envoy binds a ticket to besides its key: the certificate's names
//     in their order, its common name, its issuer, and the chain's server name. A test compares it
//     with what Envoy does.
//   - A ticket key is shown as the first 8 bytes of the SHA-256 of its name. Every ticket carries
//     that name in the clear. No byte of the key itself is shown.
//   - Keys redact themselves in logs ([TicketKey], [Ring], [Certificate]).
//   - The ends of chains are remembered, 256 of them and no keys, since a million leaves have a
//     few issuers.
package keysource
