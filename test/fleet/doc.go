// Package fleet runs real programs for tests and the demo. These are lockstepd, Envoy, an
// upstream, and a CA with the files that it issues. Nothing that it starts outlives it. That
// holds for the end of a test, a panic, and a kill -9 of the test itself.
//
// # Network namespaces
//
//   - Partitions are tested on network namespaces. [Secluded] runs a test again in a namespace of
//     its own. The test runs as root, or as a user who is root only in there. So nothing reaches
//     the machine's network.
//   - [Fleet.Network] makes boxes in there and a router between them. A box is a namespace with
//     an address. [Fleet.In] starts programs in one.
//   - The router drops what one box sends to another, in one direction or both, without a word to
//     either. That is the hard case. A connection then hangs until somebody's keepalive misses
//     it. Envoy's takes 5 to 8 s, NATS's 4 to 6 s, and the server's 5 to 15 s. The answer of
//     Redis is waited for 2 s.
//   - Unplug takes a link down instead. Those who send to it are told so.
//
// # Systemd
//
//   - The units of deploy/systemd run under a real systemd ([Systemd]), byte for byte. It is the
//     first process of a pid, mount and cgroup namespace of its own.
//   - Its root has of the machine nothing but /usr, to read, and no other units.
package fleet
