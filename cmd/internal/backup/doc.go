// Package backup packs the records of a store into one age stream (age-encryption.org/v1). It
// also brings them back. A backup is encrypted in lockstepd, before it leaves it.
//
// What is encrypted is JSON, one value a line:
//
//	{"lockstep_backup":1,"made":"2026-01-02T03:04:05Z"}
//	{"key":"cert/shop.example","value":"…"}
//	{"records":2,"sha256":"…"}
//
// The first line has the format and the time. A record has its store key, and its value before
// sealing, in base64. The last line has how many records there are, and a hash. That is of all
// lines before it, each with its newline.
//
// The keys grow in byte order. So a reader of the inner text notices a stream that was cut at a
// line, joined or reordered. Age itself notices every change of what is encrypted. With
// recipients (not a passphrase) age does not say who made a backup. So each record is checked,
// like anything else that comes from outside. Anyone can encrypt to a public key.
//
// # What a restore does
//
//   - Rings are merged and never put back. Restored keys only decrypt. The generation ends above
//     both. No key comes back to a scope that was burnt since ([rotation.Restore]).
//   - Nodes may hold a later ring than the backup did. Then there may have been a burn that
//     nothing tells of. So every key is replaced.
//   - A restore without lockstepd writes the audit log itself. On a shared store it is refused
//     while a replica was heard of in the last 30 s.
//
// # What is in a backup
//
// Some records are left out, since they are true only for the moment or for that store. The
// register of prefixes in package store says which. The format's number grows with every change
// that an older version could not read.
package backup
