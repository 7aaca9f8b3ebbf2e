// Package datadir is what lockstepd keeps on disk: its name, its tokens, the addresses of its
// admin API and for nodes, the highest generations of its rings, and the embedded store or a lock
// of its own.
//
// One process uses a data directory at a time. Files are written whole or not at all. What must
// be seen by other replicas stands in the store and not here, but for the names of the
// certificate directory, which each replica has for itself ([Names]).
package datadir
