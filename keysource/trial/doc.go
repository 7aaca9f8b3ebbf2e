// Package trial is the fleet's memory of who gets a changed certificate first.
//
// When the certificate of a name changes, one node of each kind gets it before the others of that
// kind. A kind is what nodes say they are, with their version. Replicas have nodes of the same
// kind, so the choice is a record in the store, made by compare-and-swap. The record also carries
// the outcome to the other replicas, and a refusal over a restart. It owns the keys
// "trial/<name>".
//
// The rules of this room:
//
//   - A record has a trial for each content, since the directories of replicas may differ.
//   - A replica that waits for another's node reads the record again after 25, 50, 100 ms and so
//     on. It needs no event.
//   - If the store cannot say who goes first, all nodes get the certificate, with a warning.
//   - A change during a trial takes its place. There is no trial of a first certificate and of a
//     change back. Without another replica there is none of what one stream alone has.
//   - A record holds no secret and is true of the moment: a backup leaves it out. It is removed
//     soon after it was written last, by whichever replica comes first. One with a refusal is
//     removed after 30 days.
//   - A replica without an older certificate in memory sends the kind that refused this one a
//     stand-in. A node that holds a certificate keeps it.
//   - An ACK says that the node took the certificate, not that a client does.
package trial
