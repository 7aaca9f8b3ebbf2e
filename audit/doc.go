// Package audit writes down what changes keys, before it does. Its log shows when somebody
// tampered with it.
//
// Rotations, burns, certificates, exclusions, policies, backups and what was forbidden have
// lines. No key has one, only its fingerprint.
//
// # The chain
//
//   - Each sink holds a chain of lines of its own: the records that all replicas share
//     ([Records]), a file, syslog. A line has a number, the MAC of the line before, and a MAC
//     over all of it.
//   - The key of the MACs is made once, and is a record too (audit/key). The store seals it, so
//     it outlives the sealing key. Who can read it can forge lines. So the log shows tampering by
//     those who can write to the store without that key.
//   - In the records the newest lines are one, audit/head. An append is one compare-and-swap of
//     it. [Log.Run] puts full segments into records of their own beforehand. It also reads what
//     an append has to know. An append itself has 250 ms.
//   - A line is an intent, and says what is about to be done. If the change behind it loses its
//     compare-and-swap, the line stays. The change that is made in its place gets a line of its
//     own.
//   - What took effect is known nevertheless. A rollout's record names the line of its last
//     change. Each line of a rollout names the one of the change before it (After). Lines off
//     that path changed nothing.
//   - One sink that took the line is enough. If no sink takes it, the change that it tells of
//     must not be made ([ErrUnwritten]), and serving goes on. A sink that hangs for 250 ms is
//     down. Status names each that is down.
//   - A sink that was down says itself what it lacks ([Gap]), in a line before the next one.
//     [Log.Run] looks at the sinks in between, and has that line written also if nothing changes.
//
// # What tampering shows
//
//   - [Log.Verify] finds a line that was changed, left out, moved, repeated or cut off.
//   - A whole log that was cut off at a line is sound in itself. So is a record that was put back
//     from yesterday. Both are found by heads that are kept elsewhere. These stand in the record
//     of each rollout, and in audit.mark in each data directory. That file is at most a second or
//     so old.
//   - Somebody may put back the store and the data directories of all replicas together. Only the
//     events, a file or a syslog that others keep show that.
//   - A replica that meets a log older than its mark goes on above the mark. A line says so.
//   - If the store was emptied, another replica may have made a new key. That key is taken. What
//     was written with the old one can no longer be verified.
//   - While the head is damaged nothing is changed, until the record is back. If no backup has
//     it, [Log.Mend] goes on above all that is known. It writes a line that tells of the break.
//     It leaves a number out, so that Verify names the break for ever.
//
// # Many changes
//
//   - An import has one line for each archive ([Log.AppendMany]). It has the number of
//     certificates, and the digest of their names and versions. These stand in a record beside
//     the log, audit/names/<digest>, which is written first. Verify compares them.
//   - Such a record has 512 KiB at most. Else there are several records and lines.
//   - A line for each certificate of a million would be 31 000 rewrites of audit/head.
//   - What was forbidden has a few lines for each identity, and each says for how many it stands
//     ([Log.Forbidden]).
//
// # What this package may not know
//
// The package gets words, and must not know a key when it sees one. It knows no store. Package
// storesink makes [Records] of one. A program without a store can keep them elsewhere.
package audit
