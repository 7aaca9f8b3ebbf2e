// Package double is a double of Envoy: a process that takes TLS secrets, answers, and serves as
// Envoy 1.40 does. [Envoy] is a pure model. [Node] connects one to a control plane.
//
// The double is for tests and simulations that need many nodes, or nodes that never fail by
// accident. It is checked against the original: a test plays generated sequences to both, and
// compares each answer, each claim, and what each chain serves. What the double does is therefore
// only what a real Envoy was seen to do. Who adds a rule adds a step to the generator that shows
// it.
//
// The rules, as read in Envoy's source/common/secret/sds_api.cc, source/common/tls and
// source/extensions/config_subscription/grpc, and as seen on the binary:
//
//   - All chains that name a certificate share one subscription on ADS. All that name a ring share
//     one on a stream of the SDS service, which carries this ring alone.
//   - A secret with the bytes of the last stored one is answered with an ACK. Nothing else happens.
//   - A ticket key that is not 80 bytes is refused before anything is stored.
//   - So are a ring without keys, whose response is refused as a whole, and a secret whose own name
//     is another one.
//   - Every other secret is stored, also if it is refused. Then the chains that use it are told, in
//     the order of the listener. The first chain whose context cannot be built ends that, and its
//     words are the NACK. The chains behind learn nothing.
//   - A chain builds from what it was told, not from what is stored. So a later certificate of a
//     chain that a ring did not reach is answered with an ACK, and the chain goes on with the
//     earlier ring.
//   - A certificate secret without a private key or without a chain is refused, and makes the chain
//     forget its certificate. The chain goes on with its context until the next ring. That ring is
//     answered with an ACK, and the chain has no context from then on.
//   - A secret of another kind in place of the ring is answered with an ACK, and every chain of the
//     ring loses its context.
//   - A chain that lacks one of its secrets has no context. That is no error. It resets its
//     clients.
//   - The secrets of one response are taken in no fixed order, until the first failure. All of them
//     are decoded before the first is taken.
//   - A removal is answered with an ACK. It changes nothing that is stored or served, but the node
//     claims no version for the name.
//   - A node claims the version of the last response that it answered with an ACK, for each secret.
//     A NACK changes no claim, though the secrets of the response may be stored and served.
//   - The port opens when no subscription is waited for. A secret that was taken, a removal, and a
//     NACK of its own stream end the wait. So one refused certificate on ADS opens the port before
//     the other certificates have come.
//
// The model has a fixed list of chains. What a listener of LDS does beside that is shown by tests
// without it:
//
//   - The order is that in which the chains were made. A chain that a later listener puts first is
//     told last.
//   - A chain that has left the listener is told, and refuses, for as long as it drains.
//   - A listener with a new chain whose certificate is stored bad is refused in the certificate's
//     words. The same bytes of the listener are looked at anew each time, and are taken once the
//     certificate is cured.
//   - A self-signed certificate in place of a refused one heals its chain. Chains behind it get the
//     ring when it comes as other bytes.
//
// The order in which the secrets of one response are taken was the same for all responses of one
// process, and another in other processes.
//
// The double knows nothing of certificates on demand, client certificates, CRLs, a hot restart, and
// SotW.
package double
