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
package store
