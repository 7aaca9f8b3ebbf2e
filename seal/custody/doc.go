// Package custody looks after the seal of a store. A canary shows a wrong sealing key before
// anything is served, and the key is changed without a stop.
//
// A change is like that of a ticket key. The new key is staged, so that every replica can open
// what it seals. Once all report that they have it, it seals. Every record is sealed anew in the
// background. When a full scan has proved that the new key alone opens them all, the old keys may
// go.
//
// Its rules:
//
//   - It owns the keys "seal/canary", "seal/done", "seal/ask" and "seal/replica/<name>".
//   - The canary is opened before anything else is read or written, and daily.
//   - All of a change follows from the keyset and the records. So a restart continues what was
//     interrupted.
//   - A new key seals once every replica has reported that it holds it (seal/replica/<name>).
//   - A record is sealed anew by compare-and-swap. A change that comes between wins.
//   - Records count as sealed anew only once no replica may be writing with an old key. Each
//     replica reports the key with which it has been sealing for 6 s. That is longer than any
//     driver tries a write.
//   - The note seal/done says that all records are sealed with one key. Whoever starts with
//     another key, or changes to one, takes it away.
//   - A key is dropped only after every replica has reported anew that it seals with the new one.
//     [Custodian.Retire] asks each (seal/ask) and waits 30 s for the answers. It proves by a full
//     scan that the new key alone opens everything.
//   - A replica that was away meanwhile promotes its staged key at the start if the canary is
//     sealed with it. If its keyset cannot be changed from here, it refuses to start
//     ([ErrBehind]).
//
// It does not know what the records of the store mean.
package custody
