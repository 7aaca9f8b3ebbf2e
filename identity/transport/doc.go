// Package transport is what the listeners of nodes and of the admin API speak: mTLS, or plaintext
// on a unix socket, and who the peer of a connection proved to be.
//
// Its rules:
//   - A TLS listener lets nobody in without a client certificate that it has verified.
//   - It resumes no sessions. A node whose CA was removed must not come back by a ticket.
//   - Certificates are replaced while the process runs. While files cannot be used, the last good
//     ones stay.
//   - On a unix socket the kernel says who connects, and file permissions say who may.
//
// The package knows identities, but not what an identity may have (package identity), nor what is
// sent to it.
package transport
