// Package transport is what the listeners of nodes and of the admin API speak. That is mTLS, or
// plaintext on a unix socket. It also finds out who the peer of a connection proved to be.
//
// Its rules:
//   - A TLS listener lets nobody in without a client certificate that it has verified.
//   - It resumes no sessions. A node whose CA was removed must not come back by a ticket.
//   - Certificate, key and CA are files, or come from a SPIFFE Workload API. Files are read again
//     at a handshake, at most once a second.
//   - Certificates are replaced while the process runs. Files that do not fit together change
//     nothing, and are logged. The last good ones stay.
//   - A new CA counts for new connections. Open ones stay until they end.
//   - On a unix socket the kernel says who connects, and file permissions say who may.
//   - Who cannot connect is logged with the reason in words, and counted by it. A flood from many
//     addresses costs no more than [maxPeers] entries, and a line a second.
//   - The ends of the own certificates are known at any time ([MTLS.Certificates]).
//   - Replicas ask each other over mTLS with the same files.
//
// The package knows identities, but not what an identity may have (package identity), nor what is
// sent to it.
package transport
