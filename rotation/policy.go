package rotation

import (
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Policy says how the keys of one scope change. The comments are the manual of the YAML under
// scopes:.
type Policy struct {
	// Period is the time between two rotations (default 1h).
	Period time.Duration
	// TicketLifetime is how long a ticket is good for, and so how long its key goes on decrypting
	// (default 2h, at most 24h).
	TicketLifetime time.Duration
	// MaxKeyAge bounds how long a key may encrypt (default 4h, at most 24h). At that age a
	// rotation goes on without the nodes that it waits for, once it has waited a node lease for
	// them. It names them and raises an alarm.
	MaxKeyAge time.Duration
	// Quorum is the share of the live members (0 to 1, default 0.9) that must have accepted before
	// Laggard may leave the others behind.
	Quorum float64
	// Laggard is how long a phase waits for the last members once the quorum has accepted. 0 (the
	// default) waits until MaxKeyAge.
	Laggard time.Duration
	// RefuseGrace is how long a refusal takes a new key back (default 5m), counted from the node's
	// first refusal in a rotation. After that the node is only waited for, like any laggard.
	RefuseGrace time.Duration
	// NodeLease is how long a node that went away counts as live (default 75s).
	NodeLease time.Duration
	// ClientCerts is the SHA-256 of the CA that the scope's listeners verify client certificates
	// with, a list of several while one CA replaces another, or "none" (the default). Listeners of
	// different policy must never share ticket keys, since a ticket carries the client's
	// verification with it.
	ClientCerts string

	// lifetimeBefore is the longest TicketLifetime that was in force before this one; see After. It
	// is 0 if there was no other.
	lifetimeBefore time.Duration
	// longest is the longest TicketLifetime that is in force at any replica; see Beside. It is 0 if
	// none is known but this one.
	longest time.Duration
}

// After returns p as a policy that takes the place of before. It remembers the longest lifetime of
// the tickets that are out.
func (p Policy) After(before Policy) Policy {
	p.lifetimeBefore = before.lifetimeBefore
	if p.TicketLifetime != before.TicketLifetime {
		p.lifetimeBefore = max(p.lifetimeBefore, before.TicketLifetime)
	}
	return p
}

// Beside returns p as the policy of a replica that knows which ticket_lifetimes are in force: those
// of the other replicas, and the one that this replica had before. A key that may encrypt drains by
// the longest of them.
func (p Policy) Beside(inForce ...time.Duration) Policy {
	for _, d := range inForce {
		p.longest = max(p.longest, d)
	}
	for _, d := range inForce {
		if d != p.TicketLifetime {
			p.lifetimeBefore = max(p.lifetimeBefore, p.longest)
		}
	}
	return p
}

// lifetime returns how long a ticket may be good for that is issued now, by any node.
func (p Policy) lifetime() time.Duration { return max(p.TicketLifetime, p.longest) }

// notes says what a change of the CAs of clients does to tickets, if there are any.
func (p Policy) notes() []string {
	if p.ClientCerts == "" || p.ClientCerts == "none" {
		return nil
	}
	which := "1 CA"
	if n := strings.Count(p.ClientCerts, ",") + 1; n > 1 {
		which = fmt.Sprintf("%d CAs", n)
	}
	return []string{fmt.Sprintf("client_certs lists %s: a rotation ends no ticket, but a listener whose set of client "+
		"CAs changes ends its own tickets, both when a CA is added and when one is removed; clients make a full "+
		"handshake next", which)}
}

// DefaultPolicy is the policy of a scope about which the configuration says nothing.
func DefaultPolicy() Policy {
	return Policy{
		Period:         time.Hour,
		TicketLifetime: 2 * time.Hour,
		MaxKeyAge:      4 * time.Hour,
		Quorum:         0.9,
		RefuseGrace:    5 * time.Minute,
		NodeLease:      75 * time.Second,
		ClientCerts:    "none",
	}
}

// Check refuses a policy that cannot be kept. The error names the key of the YAML.
func (p Policy) Check() error {
	const day = 24 * time.Hour
	switch {
	case p.Period < time.Second:
		return fmt.Errorf("period: %s is below 1s", p.Period)
	case p.TicketLifetime < time.Second || p.TicketLifetime > MaxTicketLifetime:
		return fmt.Errorf("ticket_lifetime: %s is not between 1s and 24h", p.TicketLifetime)
	case p.MaxKeyAge < p.Period || p.MaxKeyAge > day:
		return fmt.Errorf("max_key_age: %s is not between period (%s) and 24h", p.MaxKeyAge, p.Period)
	case p.Quorum <= 0 || p.Quorum > 1:
		return fmt.Errorf("quorum: %v is not above 0 and at most 1", p.Quorum)
	case p.Laggard < 0:
		return fmt.Errorf("laggard: %s is negative", p.Laggard)
	case p.RefuseGrace < 0:
		return fmt.Errorf("refuse_grace: %s is negative", p.RefuseGrace)
	case p.NodeLease < time.Second:
		return fmt.Errorf("node_lease: %s is below 1s", p.NodeLease)
	case p.ClientCerts == "":
		return fmt.Errorf("client_certs: empty; say none, or the CA's SHA-256 fingerprint")
	}
	// One key encrypts, one is next, and those of one lifetime drain.
	if n := 2 + int((drainsFor(p.TicketLifetime)+p.Period-1)/p.Period); n > keysource.MaxRing {
		return fmt.Errorf("period: a key each %s that drains for %s makes a ring of %d, at most %d: "+
			"lengthen period or shorten ticket_lifetime", p.Period, p.TicketLifetime, n, keysource.MaxRing)
	}
	return nil
}

// margin is added to the lifetime of tickets, since clocks differ and an acknowledgement follows
// its push by a moment.
func margin(lifetime time.Duration) time.Duration { return max(time.Second, lifetime/60) }

// drainsFor is how long a key goes on decrypting once no live member may encrypt with it, if its
// tickets have that lifetime.
func drainsFor(lifetime time.Duration) time.Duration { return lifetime + margin(lifetime) }

// MaxTicketLifetime bounds TicketLifetime.
const MaxTicketLifetime = 24 * time.Hour
