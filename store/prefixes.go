package store

import "strings"

// Prefix is a first segment of keys, or the first segments. Every prefix stands in [Prefixes].
type Prefix struct {
	// Name is the segment, without a slash. With one, the prefix is a part of another that differs
	// from it.
	Name string
	// Owner is the room that reads and writes these keys and knows what their values mean.
	Owner string
	// Backup reports whether a backup holds them. What is true of the moment, or of one store
	// only, is left out of it.
	Backup bool
	// WhileFrozen reports whether they may change while the store is frozen. A copy need not have
	// their last state.
	WhileFrozen bool
}

// The prefixes of all keys.
var (
	Certificates = Prefix{Name: "cert", Owner: "keysource/catalog", Backup: true}
	Rings        = Prefix{Name: "ring", Owner: "rotation/fleet", Backup: true}
	AuditLog     = Prefix{Name: "audit", Owner: "audit/storesink", Backup: true}
	EagerHosts   = Prefix{Name: "eager", Owner: "keysource/eager", Backup: true}
	// DirectoryNames are the names that the certificate directory of a replica had.
	DirectoryNames = Prefix{Name: "dir", Owner: "cmd/internal/datadir", Backup: true}

	// Renewals are warnings about certificates that look worse than those that they replaced. A
	// backup leaves them out, since a certificate that is brought back is compared with none.
	Renewals = Prefix{Name: "renewal", Owner: "keysource/catalog"}

	// Lifetimes say which ticket_lifetime is in force at each replica. A backup leaves them out,
	// since a rollout's record holds those of its keys.
	Lifetimes = Prefix{Name: "lifetime", Owner: "rotation/fleet"}

	// Rosters say which nodes a replica has. Nodes come and go while the store is frozen.
	Rosters = Prefix{Name: "roster", Owner: "rotation/fleet", WhileFrozen: true}
	// KnownNodes say which nodes were here within 30 days. They come and go, too.
	KnownNodes = Prefix{Name: "known", Owner: "cmd/internal/presence", WhileFrozen: true}
	// Replicas say which version a replica has, and that it stopped. That is of the moment.
	Replicas = Prefix{Name: "replica", Owner: "cmd/internal/replica", WhileFrozen: true}
	Trials   = Prefix{Name: "trial", Owner: "keysource/trial"}
	Seal     = Prefix{Name: "seal", Owner: "seal/custody"}
	// SealReports say which sealing keys a replica holds.
	SealReports = Prefix{Name: "seal/replica", Owner: "seal/custody", WhileFrozen: true}
	// Tokens are those of operators, as hashes. A backup has none of them, since bringing it back
	// would let in whoever had a token that was revoked since.
	Tokens = Prefix{Name: "token", Owner: "cmd/internal/access"}
	// Peers is the key by which replicas prove themselves to each other. Replicas on a store
	// without one make another, so a backup leaves it out, and a copy need not have it.
	Peers = Prefix{Name: "peer", Owner: "cmd/internal/access", WhileFrozen: true}
	// Acknowledged are the problems that operators know about. They are of the moment.
	Acknowledged = Prefix{Name: "ack", Owner: "cmd/internal/problems", WhileFrozen: true}
	// Conditions say in which state the store itself is: frozen, copied into, lost.
	Conditions = Prefix{Name: "store", Owner: "store/guard"}
)

// Prefixes lists all of them. A prefix that is a part of another comes before it.
var Prefixes = []Prefix{
	Certificates, Rings, AuditLog, EagerHosts, DirectoryNames, Renewals,
	Lifetimes, Rosters, KnownNodes, Replicas, Trials, SealReports, Seal, Tokens, Peers, Conditions,
	Acknowledged,
}

// Key makes a key of the prefix out of the segments after it.
func (p Prefix) Key(segments ...string) string { return p.All() + Key(segments...) }

// All is what all keys of the prefix begin with.
func (p Prefix) All() string { return p.Name + "/" }

// Has reports whether key is one of the prefix's.
func (p Prefix) Has(key string) bool { return strings.HasPrefix(key, p.All()) }

// PrefixOf returns the prefix of key. For a key that nobody owns, such as one of a later version,
// it is zero but for Backup, so that a backup holds it.
func PrefixOf(key string) Prefix {
	for _, p := range Prefixes {
		if p.Has(key) {
			return p
		}
	}
	return Prefix{Backup: true}
}
