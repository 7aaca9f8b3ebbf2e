// Package admin serves lockstepd's JSON API (see package api for the types), /metrics, /healthz,
// /readyz and pprof.
//
// # Who may ask
//
//   - Everybody may ask for /metrics, /healthz and /readyz. The table needs says which role each
//     other route needs. A route that is not in it needs the highest.
//   - A caller is known by a token: that of the local administrator (admin.token of the data
//     directory), or one of package access. Without a token, the policy may give a role to a
//     client certificate. Host, Origin and certificate are checked before that.
//   - Who is known so is the actor of audit lines and the history. What a caller says of himself
//     is shown behind that, as a claim.
//   - A line of the audit log stands before the action. If the action is refused or fails, another
//     line says so (outcome.go).
//   - Host and Origin are checked. So a web page cannot use the API through a name that it points
//     at 127.0.0.1.
//   - No key leaves through it in the clear. A backup is encrypted here.
//   - gRPC reflection for the services of nodes is on the admin address (package daemon). It needs
//     the role read. Nodes do not get to ask it.
//   - Replicas ask each other over mTLS with the same files as for nodes, and prove themselves by
//     a key that they share (package access). That opens only what they ask of each other. Only
//     the answer of the replica that was asked counts, since an address of loopback may lead to
//     somebody else. No redirect is followed.
//
// # What is shown of a secret
//
//   - The ledger is by subscription (xds/server/view.go) and shown by node. Of several streams
//     under one node id the worst state counts (badness).
//   - GET /v1/pulse says from memory whether this replica writes its roster. A replica that is
//     cut off from the store asks others for it (package rotation/fleet).
//   - Other replicas are asked for what their nodes say, with GET /v1/nodes?here and GET
//     /v1/troubles.
//   - One goroutine ([Problems.Run]) makes the list of what is not well. It alone asks the store
//     for it. What others are told of troubles is what it found last, with the times that it
//     remembers.
//   - In doubt is what a node accepted once and was offered again in other bytes. It is so until
//     the node accepts those.
//   - A certificate of a node whose ring is not accepted yet waits for its ring. Envoy
//     acknowledges the certificate, builds no context, and resets every client.
//   - Status looks only at rings, and at names that some node refused or that got a stand-in
//     ([sds.Table.Suspects]). Its cost does not follow the number of names.
//   - What is wrong with a stored certificate is found when it is read, by a node, a list or
//     explain. Status names the latest hundred. When such a name changes it is read again. So one
//     that was healed at another replica is named no more.
//   - A proof is of one node ([sds.Prover] decides, package probe makes the handshakes). Only the
//     node's own remote address is tried. The port is that of its metadata (lockstep: {port:
//     8443, eager: true}), or that of the listener's template. Nothing else that a node says of
//     itself is followed.
//
// # Lists
//
//   - A list of certificates has 1000 at most, and goes on from a name. A filter by expiry looks
//     at 5000 records for one answer.
//   - Where the store cannot begin in the middle (JetStream) each page reads all keys.
//   - A key under which no certificate can be is listed with a problem, where it stands. Only
//     somebody else writes such a key.
//
// # Import
//
//   - An archive is 64 MiB at most, and without holes. A sparse file of a few bytes stands for
//     any number. An archive gives up its place when nothing of it comes for 30 s.
//   - Lockstepd takes six archives at a time. It checks each certificate once, with all
//     processors, and stores 1024 in one go.
//   - The CLI sends archives of 2048 certificates, six at a time. Each is of neighbouring names
//     out of 32 768. Of a directory it reads only regular files, behind links as a Kubernetes
//     volume has them. It waits for no pipe.
//   - What is stored already, byte for byte, is not checked again. So an import that was broken
//     off is run again.
//   - The ends of chains are remembered (256 of them, no keys), since a million leaves have a few
//     issuers. What is left of the time is P-256, and that is two thirds of it.
//   - An import lets others have a processor after each certificate that it checks. The audit
//     line of a rotation has 250 ms, so nobody may wait for an import for long.
//   - The audit log has one line for each archive (package audit). If the store is too busy to
//     take it, it is tried again for some 15 s.
package admin
