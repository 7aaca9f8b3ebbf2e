// Package stores opens the store that a setting names, with the key that it is sealed with. It
// also copies one store to another.
//
// It is the one place that knows every driver. A store is opened as a [Vault]. Beneath the seal
// it can be frozen (package guard).
//
// Its rules:
//
//   - A sealing key that does not fit is refused before anything is served.
//   - A store into which a copy has not ended is refused (store/copying).
//   - A copy ([Copy]) takes the records as they are sealed. It follows the changes until few are
//     left. Then it freezes the first store by the record store/frozen, which is copied along. It
//     follows until no more change comes, and compares everything.
//   - A frozen store is served on. Rosters and the reports of sealing keys are written. All else
//     is refused. That holds on the old store and on the new one, until lockstep store thaw.
//   - A copy can be run again after whatever interrupted it. It begins in an empty store only, or
//     in one that carries its mark.
package stores
