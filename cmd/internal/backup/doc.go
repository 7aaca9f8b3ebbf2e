// Package backup packs the records of a store into one age stream (age-encryption.org/v1), and
// brings them back.
//
// What is encrypted is JSON, one value a line:
//
//	{"lockstep_backup":1,"made":"2026-01-02T03:04:05Z"}
//	{"key":"cert/shop.example","value":"…"}
//	{"records":2,"sha256":"…"}
//
// The first line has the format and the time. A record has its store key, and its value before
// sealing, in base64. The last line has how many records there are, and the hash of all lines before
// it, each with its newline.
//
// The keys grow in byte order. So a reader of the inner text notices a stream that was cut at a
// line, joined or reordered. Age itself notices every change of what is encrypted. With recipients
// (not a passphrase) age does not say who made a backup. So each record is checked, like anything
// else that comes from outside.
//
// Some records are left out, since they are true only for the moment or for that store. The
// register of prefixes in package store says which. The format's number grows with every change
// that an older version could not read.
package backup
