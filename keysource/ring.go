package keysource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// MaxRing is how many keys a ring may hold. Envoy tries each key of the list on every ticket, so a long ring costs handshakes.
const MaxRing = 16

// Ring is the session ticket keys of a scope at one generation. Keys[0] encrypts new tickets; every key decrypts.
// The order of this list is the whole rollout: a new key last decrypts only; first, it encrypts; gone, it is retired.
type Ring struct {
	Generation uint64 // grows with every change, and never goes back
	Keys       []TicketKey
}

// Check refuses a ring that no node should be sent: no key, more than [MaxRing], a weak key, two keys of one name. The error
// wraps [ErrBadTicketKey].
func (r Ring) Check() error {
	if n := len(r.Keys); n == 0 || n > MaxRing {
		return fmt.Errorf("%w: a ring of %d keys, must be 1 to %d", ErrBadTicketKey, n, MaxRing)
	}
	names := make(map[[16]byte]bool, len(r.Keys))
	for i, k := range r.Keys {
		if err := k.Check(); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		name := [16]byte(k[:16])
		if names[name] {
			return fmt.Errorf("%w: two keys of one name (%s)", ErrBadTicketKey, k.ID())
		}
		names[name] = true
	}
	return nil
}

// Version is "g<generation>-<hash of the keys>". Generations have an order, so that a node that reports a later one than the store
// holds is a witness of lost writes.
func (r Ring) Version() string {
	h := sha256.New()
	for _, k := range r.Keys {
		h.Write(k[:])
	}
	return fmt.Sprintf("g%d-%s", r.Generation, hex.EncodeToString(h.Sum(nil)[:6]))
}

// ParseRingVersion reads the generation out of a version. ok is true only for the exact form that [Ring.Version] writes: nodes send
// versions, and a generation that is believed outlives the ring.
func ParseRingVersion(v string) (generation uint64, ok bool) {
	g, hash, _ := strings.Cut(v, "-")
	digits, ok := strings.CutPrefix(g, "g")
	if !ok || len(hash) != 12 || strings.Trim(hash, "0123456789abcdef") != "" {
		return 0, false
	}
	generation, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || strconv.FormatUint(generation, 10) != digits {
		return 0, false
	}
	return generation, true
}

// ringPrefix starts the resource name of every ring. A slash cannot stand in a server name, so the two kinds never clash.
const ringPrefix = "tickets/"

// RingName is the resource name of a scope's ring: "tickets/<scope>".
func RingName(scope string) string { return ringPrefix + scope }

// RingScope is the scope of a ring's resource name; ok is false for every other name.
func RingScope(resource string) (scope string, ok bool) {
	return strings.CutPrefix(resource, ringPrefix)
}
