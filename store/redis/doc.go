// Package redis keeps the store in Redis (7.0 or later), for several replicas of lockstepd. That
// is a single server, a master that Sentinels watch, or a cluster.
//
// # Scripts
//
//   - Each operation is one script that Redis runs as a whole. All of a store is in one slot of a
//     cluster, and so on one master.
//   - A swap compares and writes. It enters the key into an index by revision, in which deletes
//     stay, for [Store.Changed]. Another index has the keys by name.
//   - Only masters are asked. A script that finds itself on a replica does nothing.
//   - A batch is one script, and one wait for a replica.
//   - A marker record, the store's id, tells an emptied server from an empty one.
//
// # What a failover loses
//
//   - Redis acknowledges a write before its replicas have it. A failover loses what they lack. So
//     a swap waits until one replica has it, if the master has one that is in order.
//   - A master without a replica in order acknowledges what only its disk has. It needs
//     appendonly yes and appendfsync always. If it dies then, and a server that was away takes
//     its place, the store has gone back. The newer ring is written back. At the refresh of 1 s
//     the next step waits 2.5 s for all rosters (package rotation/fleet).
//   - Sentinel makes a replica of a master that was away only some 10 s after it is back.
//   - A master may be cut off or stalled while the Sentinels make another one. It has no replica
//     then. With min-replicas-to-write 1 it takes no writes until it learns of the other one.
//   - A read is not linearizable. It may see what no replica has yet, and a failover may then
//     lose. A master that was cut off, and does not know of the other one, answers from the past.
//     It does so until it learns of it or the client's connection ends. With
//     min-replicas-to-write 1 nothing can be built on that, since a swap there fails. A replica
//     that knows that it is one never answers.
//   - After a failover or a restart, what was read before may be of writes that are lost. Redis
//     gives its data a new history id then, and every answer has it. [Store.Changed] then names
//     every key once.
//   - An answer is waited for 2 s.
//
// # Revisions
//
// A revision is the server's microseconds since 1970. If the server or the writer knows of a
// higher one, it is one more than that. The microseconds are exact in the doubles that Redis has
// for scores until 2255. So a revision grows where clocks do not. After a failover that lost some
// writes it is above all that the writer has seen. It is none of those that were lost, unless two
// servers' clocks gave out the same microsecond.
package redis
