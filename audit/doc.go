// Package audit writes down what changes keys, before it does, in a log that shows when somebody
// tampered with it.
//
// Its rules:
//   - Each sink holds a chain of lines of its own: the records that all replicas share
//     ([Records]), a file, syslog. A line has a number, the MAC of the line before, and a MAC
//     over all of it, under a key that is a record too. Only those who can read that record can
//     make a line.
//   - [Log.Verify] finds a line that was changed, left out, put elsewhere, or cut off at the end.
//     The last is found by heads that are kept elsewhere: in the record of each rollout, and in a
//     file of each replica.
//   - A line is an intent: it says what is about to be done. If the change behind it loses its
//     compare-and-swap, the line stays, and the change that is made in its place gets a line of
//     its own. What took effect is known nevertheless: a rollout's record names the line of its
//     last change, and each line of a rollout names the one of the change before it (After).
//     Lines off that path changed nothing.
//   - If no sink takes a line, the change that it tells of must not be made ([ErrUnwritten]).
//
// The package gets words, and must not know a key when it sees one. It knows no store: package
// storesink makes [Records] of one, and a program without a store can keep them elsewhere.
package audit
