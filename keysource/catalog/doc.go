// Package catalog keeps certificates in the store, where every replica finds them.
//
// It owns the keys "cert/<name>". Values hold private keys; the store that is passed in seals
// them.
//
// The rules of this room:
//
//   - No certificate is cached. One that nobody asks for is a record and nothing else.
//   - A record is DER behind a few fields, and is read without parsing a certificate. PEM is made
//     of it when a node asks.
//   - A certificate is checked once, when it is put. What was stored already, byte for byte, is
//     not checked again. So an import that was broken off is run again quickly.
//   - After 2000 look-ups in vain within a minute it learns which names the store has: a hash of 8
//     bytes each, in the background. Then an unknown name costs no read. It knows nothing while it
//     could not look at what changed for three refreshes. It forgets all when nobody has tried
//     names for ten minutes.
//   - What is wrong with a record is found when it is read. The latest hundred are named. When
//     such a name changes it is read again. So one that was healed at another replica is named no
//     more.
//   - The nearest ends are known, and nothing of other certificates ([Catalog.Ends]). Records are
//     read for that once at the start, when they change, and twice a day. A tenth of the time is
//     spent on it.
//   - What is done to many records is done in bounded steps, and lets others have a turn. A
//     rotation must not wait for an import.
//   - A key under which no certificate can be is listed with a problem, where it stands.
package catalog
