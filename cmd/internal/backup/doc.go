// Package backup packs the records of a store into one age stream (age-encryption.org/v1), and brings
// them back.
//
// What is encrypted is JSON, one value a line:
//
//	{"lockstep_backup":1,"made":"2026-01-02T03:04:05Z"}   the first line: format and time
//	{"key":"cert/shop.example","value":"…"}               a record: store key, and value in base64
//	{"records":2,"sha256":"…"}                            the last line: count, and hash of all before
//
// Values are as they were before sealing. The hash is over all lines before, each with its newline. Keys
// grow in byte order. So a stream that was cut at a line, glued together or reordered is noticed even by
// one who has only the inner text. Age itself notices every change of what is encrypted. With recipients
// (not a passphrase) age does not say who made a backup. So what comes back is checked record by record,
// like anything else that comes from outside.
//
// A record that is true of the moment only, or of one store only, is left out. The register of prefixes
// in package store says which. The format's number grows with every change that an older version could
// not read.
package backup
