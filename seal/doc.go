// Package seal encrypts values before they leave the process, with AES-256-GCM under a Tink
// keyset that a [Keys] keeps. That is a file that only its owner may read, a systemd credential,
// or an environment variable. A KMS can implement it.
//
// Its rules:
//
//   - A keyset is Tink's JSON form of a cleartext keyset, so tinkey works on it too.
//   - The order of its keys has a meaning. The primary key seals, and every enabled key opens. A
//     key after the primary is staged, and seals once every replica has it. A key before the
//     primary is old.
//   - A value is bound to associated data, which must be given again to open it.
//   - A value of an unknown key has the keyset read again, once a second at most. The key may
//     have come since.
//   - No error, log line or message has key material.
//
// Whoever has the keyset can open all that was sealed with it. Whoever loses it can open nothing.
// The package does not know what it seals, nor where that is kept.
package seal
