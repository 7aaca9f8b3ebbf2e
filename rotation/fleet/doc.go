// Package fleet carries the rollouts of package rotation out over the replicas of a control plane.
//
// Any number of replicas work on one store. None is special, and none is a leader. Each runs a
// [Coordinator], which carries the rollout of every scope. Commands and steps are
// compare-and-swaps of one record for each scope. The replica that loses a swap reads again. A
// request for a rotation joins the one that is under way.
//
// A replica's roster says which nodes it has and what each may hold. It survives a restart. The
// tally, on which a decision is made, is the union of all rosters by node, and of two entries the
// newest counts. All times are in times.go.
//
// # How a node is let in
//
//   - A stream that asks for a ring is a candidate until it accepts one. It is written into the
//     stored roster, then the ring is read again, then the ring is sent. So a replica that decides
//     without having seen the candidate decided before that reading. What the candidate may hold
//     is the generation at that moment or a later one, and that is its floor. Of another replica's
//     candidate only the time counts of which that replica has spoken.
//   - One identity takes at most 640 KiB of a replica's roster under ids that are not bound to it,
//     which is room for 30 000 nodes. A node beyond that which has no ring is sent none until there
//     is room. So it holds none, and is not waited for. One that says that it holds a ring always
//     enters. Nobody is taken off the roster for it.
//   - A roster takes at most 896 KiB of the store, since a NATS server takes messages of 1 MiB. The
//     members for which there is no room stand there as one that holds back what any of them would.
//     Those that refuse or lag have entries of their own, as long as there is room.
//   - A replica that has its store to itself lets nodes in although it cannot write, as with a
//     full disk. Nobody else can go on without them.
//   - A node notices a dead connection by its own keepalive. It may be back before its old stream
//     ends, or back and gone and back. A stream that brings a ring takes the old one's place when
//     that ends within a minute. Which of two came later is known from the order in which their
//     connections were accepted, since after a pause the dead ones and the living one are served
//     at once. Two nodes under one id are two members, and are shown.
//   - A client can send a ring's name as its server name, and Envoy then opens a stream that asks
//     for it as a certificate. So the ring's own stream says what it is (header x-lockstep-kind:
//     ring). If such a stream refuses its first ring it is a node, is shown as refusing and is
//     waited for, since some of its filter chains may have taken the ring. A stream without the
//     header whose first answer is a refusal wanted a certificate. It leaves no trace, and gets
//     removal from then on. The log says it. A ring's own stream is never answered with removal.
//   - Rosters are written before a first ring is sent, when a phase is complete, and otherwise at
//     most once a second, whatever the number of nodes. A node takes about 20 bytes.
//   - After a restart all nodes are away until they are back, with the floors that were stored. So
//     an empty room is never mistaken for an agreed one.
//
// # Replicas
//
//   - A roster is written every 10 s and says where its replica's admin API is. One that is 30 s
//     old is of a dead replica. Its nodes are away from then on, since a replica that is only cut
//     off may have had them until then.
//   - Two streams under one id, on two replicas, are one node that moved only if the later one
//     brought a ring along, and the replica of the earlier one has not spoken since. Else both
//     count. A candidate whose replica died does not count beside a connected stream of its node
//     that has answered. That stream's floor holds for the node, whichever came first.
//   - A refusal of a member whose id is not bound to its identity is judged by the replica that it
//     is connected to, since the others do not know its group ([rotation.Member]).
//   - A roster that cannot be read stops nobody. Its nodes count as nodes that hold nothing, until
//     the replica writes another, or its silence and a lease are over.
//   - After an outage of the store the first replica to use it again hears of nobody. A replica
//     that has not read the store, or not written to it, for 15 s, or has just been started, takes
//     another for dead 30 s after that at the earliest. It gives all who are away a whole lease,
//     since they may be at a replica that could not write it down. Of a start, and of a shorter
//     outage, only the time is taken off, so that restarts keep nobody alive.
//   - Rollouts go by the store's clock, which is known within the time that its answer took. A
//     replica that is more than 30 s off it serves, says so, and leaves decisions and commands to
//     others.
//   - With embedded events no replica would wake another. The second one refuses to start, names
//     the first, and takes back what it wrote of itself.
//   - How long tickets are good for, each replica writes beside the rosters before a longer time
//     reaches its nodes. A key drains by the longest that is in force at any of them, also at one
//     that has died and whose nodes may be back. A restart with another time finds the one of before.
//   - A replica that is cut off from the store lets its nodes go after 24 to 26 s, and refuses new
//     ones for 3 s, every 10 s. Nodes that reach another replica are there before anybody goes on
//     without them. Those that do not come back and are served with what is known. It does so only
//     where for 6 s some other replica has said that it writes its roster, or not all have
//     answered. In the second case it does so ever more seldom, down to every 90 s, so that nodes
//     are not sent around when the store is lost to all.
//
// # Stores that lose things
//
//   - A ring that was handed out is never overwritten by an older one. A replica whose store went
//     back writes its newer ring again. Where the store has gone another way since, all begins
//     anew above both. If the store acknowledged what only one of its disks has, the next step
//     waits until every replica has written its roster again (2.5 s at the refresh of 1 s).
//   - A store that was emptied is not an empty store. The first replica that finds it leaves a
//     record of the loss (see [Loss]) before it lets nodes in. Every replica writes back the ring
//     that it sends, and the highest generation wins. No step is made for 105 s at the usual
//     lease, since the rosters are gone, too.
//   - A start on an emptied store is the same loss. A replica whose memory ([HighestSent]) says
//     that there were rings replaces every key after 30 s, above the highest generation that it
//     sent. One to which all is new makes no ring in the first minute of the record, since another
//     may have one.
//   - A ring that was put back from an earlier day is found by the same memory. It is not served.
//     A replica that still has the newer one writes it back within a refresh. After 30 s without
//     one every key is replaced, since what was put back may have been burnt.
//   - A record that was damaged does not open, is named by status and log, and is never served.
//     What is published stays. A roster is written again by its replica within 10 s, or removed
//     when nobody on it can be live. A ring is written back after a refresh and 1.5 s by the
//     replicas that have it in memory, the highest generation last. Until then nothing is changed.
//     If nobody has it, the scope waits for a burn or a restored backup. These begin above every
//     generation that the memory, a roster or a node tells of, and a backup of before that brings
//     no key back.
//   - A replica that lacks the sealing key of the others overwrites nothing. It first makes sure
//     that other records open. What another version wrote is not damaged.
//
// # What this package may not know
//
// It knows no stream, no protocol and no program. Acknowledgements come in as calls, rings go out
// as values, and other replicas are the interface [Peers]. It decides nothing about keys: every
// change of a ring is one of package rotation's functions.
package fleet
