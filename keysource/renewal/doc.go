// Package renewal judges a certificate against the one that is served, before it takes its place.
// Whether it can be served at all, package keysource has decided before.
//
// Its rules:
//
//   - What cannot serve does not replace what can. That is so while it is not valid yet, or if it
//     comes without the intermediate that the one before was sent with.
//   - A chain that became shorter may be half-written. Whoever reads files believes it only after
//     [Settle].
//   - What merely looks worse is served, with warnings in words.
//   - A right renewal has no warning. That includes another intermediate of the same CA.
//
// It reads nothing and keeps nothing. The directory and the store ask it alike.
package renewal
