// Package sds is where secrets meet Envoy.
//
// It holds how a certificate and a ring look on the wire. It holds the table of secrets that some
// node wants now, and the gRPC service that streams them. The protocol is package xds/server,
// which knows nothing of secrets. The drawing in ARCHITECTURE.md shows where this room stands.
//
// The rules of this room:
//
//   - It may not see the store. Certificates come through [keysource.Source], rings come as
//     values.
//   - Rings are served on the SDS service only. On ADS a client's server name could name one.
//   - An absent certificate is answered with removal at once. An absent ring is never answered.
//   - Nodes are let in once the directory, the store and every ring were read. Before that nothing
//     may be called absent.
//   - A certificate that nobody asks for is not in the table.
//
// # Looking up
//
// [keysource.ServerName] makes one name of all spellings. What it refuses is absent without a
// look. The certificate of the name itself wins over its wildcard's. Either is sent under the name
// that was asked for.
//
//   - There is one flight for a name, and 32 loaders. At most half of them serve names whose last
//     load failed. Eight others find what the first source has, so it waits for no source that
//     hangs.
//   - 8192 absences and the certificates of 512 wildcards are remembered for 30 s. A word that the
//     name changed ends that. What was read before that word is not remembered after it.
//   - A stream on ADS may have a name in its normal spelling and one other. The normal one can
//     never be kept out by another.
//   - Before a name is called absent, CheckComplete is asked whether the store may have lost it:
//     each time if a certificate was sent under it, else once a second for all names.
//   - A certificate on ADS carries a TTL, a second below its remaining life. Nothing on the SDS
//     service has one. One that has expired is sent on with a TTL of a minute: it exists, so it is
//     not absent.
//
// # Cures
//
// A refused certificate is cured, not repeated. The node gets the last good one, best the one that
// it had accepted. If there is none, the name is removed on demand. A chain of its own gets a
// stand-in, self-signed for that name. A stand-in never counts as accepted. The refused content is
// not offered to that stream again.
//
// Then what the failed build kept from other chains is offered again: the ring in other bytes, and
// a listener that was refused. If the culprit is not known, each certificate of the node is
// offered alone. The node's other streams may be at another replica. Replicas tell each other by
// an event. Without it the ring's own retry finds the node cured. What cannot be cured is named:
// the node must be restarted.
//
// Variants are other bytes of the same meaning. In a ring the first key stands again at the end.
// Before a chain stands a line of text.
//
// # Trials and proofs
//
// When the chain or key of a name changes, one node of each kind gets it first. Package
// keysource/trial is the memory of it. All names that show one certificate share one trial. 256
// are under way at once, and each has its time from when its turn comes.
//
// A node that refused a ring, or took a remedy, is tried once it has accepted the ring. Package
// probe makes them. Only the node's own remote address is tried, at the port of its metadata or of
// the listener's template. In hybrid mode the hosts are those of the listener that it accepted. A
// client can make it ask for any certificate. At most 16 handshakes are under way in the process.
package sds
