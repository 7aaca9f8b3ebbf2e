// Package replica knows the replicas on the store: which version each has, whether it answers, and
// which of those that were here are missing.
//
// The roster says that a replica is alive (package fleet). A record beside it says what the replica
// is. A version that does not write these records is called [Earlier].
//
// A replica that stops on purpose says so in its record. One that stops writing without that is
// missing, until it is back, or for 24 hours.
package replica
