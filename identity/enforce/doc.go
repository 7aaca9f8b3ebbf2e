// Package enforce keeps the policy that is in force. It watches the file, and writes the audit
// lines that say which policy counted when.
//
// Its rules:
//
//   - A policy counts only after the audit log has a line that names it. A policy that is not
//     known to be unchanged lets no node in before that (see [Enforcer.Settled]). So one that was
//     changed while nobody ran is noted before the first node is let in.
//   - While the file holds no policy, the last good one stays in force. The same holds while the
//     audit log cannot note the new one. Status says so.
//   - A restart with an unchanged policy needs no audit log. The history file policy.mark in the
//     data directory remembers it.
//   - In a frozen store a policy counts, unless it is known to be another one. It is noted after
//     the thaw.
//   - The history file has the earlier policies, too. One that was replaced and comes back is
//     named by the log and the audit log. Status, a metric and an alert name it for a day, since
//     it may be meant (see [Enforcer.Problems]).
//
// # A narrower policy
//
// A narrower policy counts on open streams. Their certificates are answered with removal. Rings
// are sent no further, and rotations no longer wait for the node. The node keeps the keys that it
// holds until these leave the ring. So a node that must not have them any more is a reason to
// burn.
//
// # What is forbidden
//
// A forbidden certificate is answered as an absent one, byte for byte, and without a look at the
// store. A forbidden ring is not answered, like an absent one. A denial is a line in the log, a
// count, and a line in the audit log. The log gets the first hundred and then ten a second
// ([Denials]). The count has all. The audit log gets a few of each identity, and each such line
// says for how many it stands.
//
// # What this package may not know
//
// The package knows neither streams nor the store. It gets the audit log as [Audit], and hands a
// new policy to Config.Apply. Package identity decides what a policy grants. Package sds answers
// what is forbidden.
package enforce
