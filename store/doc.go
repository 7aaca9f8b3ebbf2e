// Package store keeps small values that every replica sees, and changes them by compare-and-swap.
//
// Its rules:
//   - Values are bytes. Nothing here knows what one means.
//   - Keys are paths ("cert/shop.example"), made by [Key]. The first segment has one owner, and
//     stands in the register of prefixes (prefixes.go).
//   - An error is certain or unknown, and the sentinels say which (see [Store]).
//   - A driver (memory, bolt, jetstream, redis) knows this contract alone, and passes storetest.
//     A driver without a faster way to do many keys uses [OneByOne].
//   - A guard (package guard) is a [Store] around another one. Whatever a guard does, it does for
//     single and bulk calls alike.
//
// # Many keys at once
//
//   - What is done to many records is done in bounded steps. A store takes [MaxBulk] keys in one
//     call.
//   - A driver may read and change many keys, and list keys from the middle, at once. Bolt makes
//     transactions of 512 changes of them, Redis one script. JetStream, and whatever has no such
//     thing, gets single calls ([OneByOne]).
//   - Of the process 64 such single reads and 16 such single writes are under way at a time.
//   - Each swap is on its own. One that conflicts leaves the others alone.
//   - An import delays nobody for long, since the audit line of a rotation has 250 ms. In bolt
//     single changes go before those of a batch. Elsewhere they wait for 16 writes. With larger
//     transactions, and 10 ms a turn, rotations were refused.
//   - Where the store cannot begin in the middle (JetStream), each page of keys reads all keys.
package store
