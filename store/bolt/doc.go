// Package bolt is the embedded store. It is one file, for one process at a time. Every write is
// synced before it is answered.
//
// The file holds four buckets, so that no call costs more than what it is about:
//
//	keys    key -> revision (8 bytes, big endian)
//	values  revision -> length of the key (uvarint), key, value
//	gone    revision -> key, for the newest deletes
//	meta    how many deletes are in gone, and the newest that was dropped from it
//
// Its rules:
//
//   - Values lie in the order in which they were written, and keys lie apart. So new names in any
//     order fill page after page. Under their keys, each would have a page of its own written
//     anew.
//   - To list the keys touches no value.
//   - A batch is made of transactions of 512 changes. A single change goes before those of a
//     batch, and waits for one transaction at most. Larger ones are hardly faster, and rotations
//     were refused with them.
//
// The package knows the contract of package store alone, and not what a value means.
package bolt
