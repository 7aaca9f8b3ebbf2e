// Package guard holds the stores around a store. Each refuses, changes or notices something on
// the way to the driver.
//
//	Lossy      notices that the store was emptied, and has it filled again
//	Sealed     encrypts values before they leave the process
//	Freezable  refuses changes while the store is being moved
//
// They are stacked in this order, the last one next to the driver. Each keeps the contract of
// [store.Store], and is written once for single and bulk calls (see hooks).
//
// # Emptied
//
//   - A store that was emptied under us (FLUSHALL, a stream deleted) is not an empty store. A
//     driver that can tell says [store.ErrLost].
//   - The first replica that hears of a loss makes the store usable again. It leaves the record
//     store/lost.
//   - Every replica writes back what it serves. Package cmd/internal/loss does so for
//     certificates, and package rotation/fleet for rings.
//   - While the record stands, a record that is missing is not known to be missing. It stands
//     until [ForgetLoss] gives up what nobody had. That is lockstep cert rm --confirm.
//   - If the record itself is damaged, it is written anew. Its time is then when that was
//     noticed. A loss whose time is not known is a loss.
//
// # Frozen
//
//   - A copy of a store follows the changes, and then freezes the store by a record in it,
//     store/frozen. The record is copied along. So it holds on the old store and on the new one,
//     until [Freezable.Thaw] (lockstep store thaw).
//   - Every lockstepd goes by it. It serves on, and writes rosters and the reports of sealing
//     keys. It refuses all else.
//   - A write that was under way when the store froze fails with an unknown outcome. What was
//     acknowledged is in the copy. So nothing is lost between the last pass and the last restart.
//     No replica rotates without those that have not moved yet.
//   - A store into which a copy has not ended carries the record [CopyingKey], store/copying. It
//     is refused.
//
// # Sealed
//
//   - A value is sealed with its store key as associated data. So a record cannot be moved under
//     another name. An older record that is put back under its own key opens.
//
// The package knows conditions of the whole store, and the keys "store/…" that say them. It does
// not know what other values mean, nor how they are encrypted. That comes as [Sealer].
package guard
