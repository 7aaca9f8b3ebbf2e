// Package access keeps what lets a request into the admin API: the tokens of operators, and the
// key by which replicas prove themselves to each other. Both are records of the store, which all
// replicas share.
//
// Its rules:
//
//   - A token is stored as its SHA-256. It is 130 random bits, so the hash needs no salt and no
//     slow function. It is shown once, when it is made.
//   - A change of the tokens counts at once on the replica that makes it, and within a refresh on
//     the others. A replica that cannot read the store goes by what it read last. The end of a
//     token is enforced by the clock of the machine.
//   - A record of a token that this version does not understand lets nobody in.
//   - A replica proves itself by an HMAC-SHA-256 over the request, the time and the names of both
//     replicas. The key is in memory, so that it works while the store is away. A proof counts for
//     five minutes, and once.
//   - What a replica may do with that is decided by who serves it (package admin).
package access
