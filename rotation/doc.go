// Package rotation decides how the session ticket keys of a fleet change without turning anybody
// away.
//
// A [Rollout] is the state of one scope: its keys in the order in which nodes get them, and its
// phase. A ring is that ordered list with a generation that only grows. The first key encrypts,
// and every key decrypts. The order of this one list is the whole rollout:
//
//	phase         ring sent     goes on when
//	steady        [k1 …]        the period is over, or somebody asked: append k2
//	distributing  [k1 … k2]     every live member has accepted k2, which only decrypts: k2 goes first
//	promoting     [k2 k1 …]     every live member has accepted that: steady, and k1 drains
//	burning       [k9]          nobody on the roster may hold a burnt key
//
// A key drains until ticket_lifetime and a margin have passed since the last live member stopped
// encrypting with it. A burn begins at once, from any phase, and replaces every key by a fresh
// one. It ends 10 s after nobody on the roster may hold a burnt key, the away and the excluded
// included. A handshake that was under way is over by then.
//
// # The decision
//
// Everything is decided from one number for each node, its floor. The floor is the lowest
// generation that the node may hold. It rises with each acknowledgement, and a reconnecting node
// brings it along as the version that it says it holds. A key may encrypt once every live floor
// has reached the generation that brought the key. A key may go once every live floor has passed
// the generation that put another key first, and the lifetime of its last ticket is over. So a
// key's drain does not depend on phases. A node that comes back with an old ring starts the clock
// again.
//
// [Rollout.Next] is that decision. From the state, the policy, the [Tally] of nodes and the time
// it returns what comes next. It leads to one new ring at most. Between two rings the rosters are
// read anew, so that a node that joined unseen is never two rings behind. A fleet without nodes
// rotates in one look, in three swaps. The simulation in package rotation/fleet plays Next against
// thousands of random fleets and knows what their nodes really hold.
//
// # The rules
//
//   - A refusal takes a new key back while that key only decrypts. Nobody needs the key yet, and
//     the fleet is whole again. The rotation is tried again with a backoff from 1 s to 5 min. When
//     refuse_grace has passed since its first refusal, a node is only waited for.
//   - A node id proves nothing, so one client may refuse under many. Members whose ids are not
//     bound to their identity are a group ([Member].Group). The grace of a whole group begins with
//     its first refusal in a rotation. So it takes a key back no longer than one node could. This
//     bounds refusals alone: each member of a group is waited for, and none is left behind sooner.
//     max_key_age bounds how long, whatever their number.
//   - A phase waits for laggards until max_key_age, or for laggard once the quorum has accepted,
//     but always for one node lease. Then it goes on and names those that it left behind. A
//     draining key is kept for them no longer than that.
//   - A lost stream makes a node away, not gone. Its lease ends it. An away node whose floor is
//     high enough blocks nothing: it may only serve with what it holds.
//   - A candidate is a stream that asked for a ring and has accepted none. It counts for one node
//     lease, from when it was let in. A stream that has accepted nothing by then is no member. (A
//     shorter time lost tickets in the simulation when an acknowledgement was slower.)
//   - A node that reports a generation that the store never reached proves that the store lost
//     writes. The generation is lifted above it. The claim of one node must not cost a fleet its
//     keys, so the keys stay. One of them may have been burnt since, and [View] says so until each
//     is burnt or has retired.
//   - A key that was burnt never comes back, neither from an operator nor from a backup. [Restore]
//     says what a backup brings back.
//
// # Records grow
//
// Replicas of two versions write a record in turn. A field of a rollout's record that a version
// does not know is kept, and written back as it is. What must be understood is named in the
// record's needs. A version that does not know it leaves the record alone and says so. A roster's
// flags may get bits, over which earlier versions pass.
//
// # What this package may not know
//
// It knows no store, no log, no goroutine and no clock: every function is pure, and takes the time
// and the source of keys as arguments. A test forbids the imports. Package rotation/fleet carries
// the decisions out. Key bytes leave only in a [Rollout], its ring and its record. A [View] holds
// none.
package rotation
