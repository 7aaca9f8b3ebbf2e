// Package probe makes real TLS sessions and offers them to real nodes. An ACK says that a node
// accepted its keys, and a resumption proves that it uses them.
//
// Its rules:
//
//   - It sees only what any client sees. It needs no access to a node or to lockstepd.
//   - A node that declines a session is a result. An error means that nothing could be found out.
//   - The number of connections at the same time is bounded. A probe must not look like an
//     attack.
//
// # The proof of a node
//
//   - [Prover.Prove] tries each host with session tickets, in TLS 1.2 and 1.3.
//   - The ticket's first 16 bytes must name the ring's first key. A ticket of another node must
//     resume. If there is no other node, the proof says so.
//   - At most 16 handshakes are under way in the process.
//   - Package sds decides who is tried and when. Package cmd/internal/admin shows it. A ring that
//     changes meanwhile has the trial made again.
package probe
