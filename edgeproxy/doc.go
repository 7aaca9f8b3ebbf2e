// Package edgeproxy is a reverse proxy that terminates TLS. Its certificates are loaded as clients
// first ask for them, and its sessions resume at every proxy of its scope. It is built on net/http
// and net/http/httputil.
//
// It knows its certificates as an interface. Package edgeproxy/secrets gets them from the control
// plane, edgeproxy/ticket makes tickets of a ring, and edgeproxy/lastgood keeps a sealed copy. No
// store, no NATS and no server code is linked into lockstep-edge (test/edge_test.go). To lockstepd
// it is one more node: it asks over one SDS delta stream, acknowledges like Envoy, and is waited
// for like Envoy.
//
// The rules of this room:
//
//   - An ACK is sent when the ring is in use: a new tls.Config has taken the place of each
//     listener's. A handshake keeps the one with which it began. What cannot be used is refused,
//     in words.
//   - Clients are judged in VerifyConnection, which runs for resumed sessions, too.
//     VerifyPeerCertificate does not, and a test forbids it.
//   - A ticket carries, encrypted, a hash of the listener's terms (scope, client CAs,
//     verification, names) and the server name. Anything else is declined, and a full handshake
//     follows. Before the first ring there are no tickets.
//   - Ticket keys for crypto/tls are HKDF-SHA256 of each ring key, with a label and the scope. So
//     nothing that is done with them tells anything of the ring's own use in Envoy.
//   - Removed is removed. A host ends at once, and so do its sessions. The control plane is asked
//     before a session of a name that is not held resumes. It has 250 ms.
//   - Look-ups are a cache, bounded by limits.names, whose admission a scan of names does not win.
//     Behind it there is one subscription for a name. The last one who gives up ends it. An
//     absence is remembered for 5 s. A wildcard's certificate is held once.
//   - The last-good copy is two sealed files and a third with fingerprints of keys that have left
//     a ring. Such a key is never used again, whatever a copy says. The third file is written
//     before the ring that lacks the key is acknowledged. Rings are stamped every 30 s while the
//     control plane is there.
//   - Ready means that listeners are bound and each scope has a ring, from the control plane or a
//     fresh copy. Until then connections wait in the socket's queue, 3 s at most.
//   - A hand-over (SIGHUP) gives the sockets to a new process. The old one drains when that one is
//     ready, and goes on when it is not. Under systemd the new one is made a child of systemd, and
//     is named the main process.
//   - Time-outs are for each step, and count only while the client or the upstream is waited for.
//     The deadlines of net/http would end a silent HTTP/2 stream.
//   - A connection from a network of proxy_protocol begins with a header, or is closed. The header
//     is read when the remote address is first asked for. So nothing may ask for that in the loop
//     that accepts connections.
//   - Handshakes are made here, and net/http gets connections that have made them. So the reason of
//     a failure is known, and HTTP/1 has a reader in front of it (framing.go). That one notes what
//     net/http drops of a head. It never decides where a request ends: where the two differ, the
//     request is refused.
//   - Upstreams believe some headers. From peers that are not trusted they are removed. What is
//     told of a client's certificate is in the words of Envoy.
//   - A request is sent again if its endpoint has certainly not looked at it, or if it may be made
//     twice. Outcome.go tells these apart. Up to 64 KiB of a body are kept for that. Connections
//     to endpoints are this package's own (links.go), since net/http's pool repeats requests that
//     it should not, and does not repeat some that it could.
//   - Two proxies behind a virtual address replicate nothing. So there is nothing that a crash
//     could leave half done.
package edgeproxy
