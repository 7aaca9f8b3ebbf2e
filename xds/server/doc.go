// Package server streams resources to xDS nodes: incremental (delta) and state of the world, on
// the aggregated service (ADS) and on the service of one type.
//
// It keeps for each stream and name what was sent, accepted and refused, and passes it on as
// events. It knows nothing of what a resource means. The gRPC server must be made with [Options],
// which hold the codec that sends encoded bytes as they are.
//
// # Streams
//
// A stream is a state machine without I/O (machine.go). It has one owner at a time: the goroutine
// of gRPC with a request, one of a few pushers with changed names, or a timer. Whoever holds its
// mutex owns it.
//
//   - Nothing blocks under the mutex. A response for which the transport might wait is sent aside.
//     A peer that takes none for 20 s is cut off.
//   - There is no second goroutine for a stream. It would cost each idle node a stack, and each
//     push two switches.
//   - Changes arrive as names in a mailbox, which is a set. The stream looks the names up again.
//   - A response differs from another stream's only in its envelope (nonce). Flow-control windows
//     are static, 1 MiB.
//   - Every outstanding nonce is tracked. An unknown one acknowledges nothing. Subscriptions
//     always count.
//   - A version that an edge refused is parked, and sent again after 1 s to 5 min. What Envoy
//     refused is cured by package sds.
//   - An absent name is answered with removal at once. What could not be looked up is not
//     answered.
//   - A wildcard or empty subscription gets nothing and is counted. The exception is a small type
//     that allows it ([xds.Wildcard]): Envoy always asks for all listeners.
//   - A name that is not UTF-8 gets no answer, since no protobuf can say it. Its client waits for
//     Envoy's timeout. If the request was refused as malformed, one such client could end a node's
//     stream again and again.
//
// Which of two streams of a node came later follows from the order of their connections
// (order.go). After a pause the dead and the living ones are served at once.
//
// # What an ACK is worth
//
// Envoy stores an update before it rebuilds the TLS contexts that use it. It stops at the first
// chain that it cannot build, and answers with a NACK. What it refused stays stored. It answers an
// ACK to the bytes that it stored last, without a look at them (envoyproxy/envoy#42438). So:
//
//   - The ledger is by subscription: stream, type and name. An ACK counts only if other bytes were
//     delivered before.
//   - What is offered again goes in other bytes of the same meaning. Whoever provides the
//     resources makes them ([xds.Varying]).
//   - A name in the first request of a stream may have been sent to the node on an earlier one.
//     Then two encodings go one after the other, and the answer to the second one counts.
//   - A version that the node brings along is believed by its mark: "g7-….0" was sent after other
//     bytes, "g7-….2?" was not known to be. A version without a mark is not believed.
//   - What replaces a version goes alone in its response. Of several that Envoy refuses together
//     it may use some, under the version before.
//   - The edge stores nothing that it refuses. It is sent no variants, and each of its ACKs
//     counts.
//   - A chain is cured before it leaves a listener. It drains for long, and takes part in every
//     rebuilding.
//
// A test plays this against nodes that keep what they refuse.
//
// # What a node may hold on demand
//
// Envoy's cache has no bound, so a stream has some:
//
//   - Above node_names the names that were sent first are removed, 50 a second. Envoy drops each,
//     unsubscribes, and asks again when a client comes.
//   - A full wildcard group holds 50 names more for a moment, and its oldest are removed at that
//     pace. So new names come in, however many are asked for. The others are refused at once.
//   - A name that was removed comes back whenever it is asked for. The last 16 384 are remembered,
//     8 bytes each. Each came back once for each removal, so a stranger gains only the place for
//     as many again.
//   - A name that stays subscribed 10 s after its removal belongs to an eager chain. It is given
//     back, and never removed again. Nothing is removed on the SDS service.
//   - A stream holds 200 000 names at most. A node that is back must be able to list them in 24
//     MiB. The server takes 64 MiB, since nobody bounds what clients ask for while no server is
//     there.
package server
