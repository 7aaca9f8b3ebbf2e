// Package stores opens the store that a setting names, with the key that it is sealed with, and copies
// one store to another.
//
// It is the one place that knows every driver. A store is opened as a [Vault]: beneath the seal it can be
// frozen (package guard), and a sealing key that does not fit is refused before anything is served.
package stores
