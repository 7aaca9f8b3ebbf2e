// Package guard holds the stores around a store: each refuses, changes or notices something on
// the way to the driver.
//
//	Lossy      notices that the store was emptied, and has it filled again
//	Sealed     encrypts values before they leave the process
//	Freezable  refuses changes while the store is being moved
//
// They are stacked in this order, the last one next to the driver. Each keeps the contract of
// [store.Store], and is written once for single and bulk calls (see hooks).
//
// The package knows conditions of the whole store, and the keys "store/…" that say them. It does
// not know what other values mean, nor how they are encrypted: that comes as [Sealer].
package guard
