package keysource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// MaxRing is how many keys a ring may have. Envoy tries each key of the list on every ticket, so a
// long ring makes handshakes more expensive.
const MaxRing = 16

// Ring has the session ticket keys of a scope at one generation. Keys[0] encrypts new tickets, and
// every key decrypts. The order of this list is the whole rollout. A new key comes last and only
// decrypts. When it comes first it encrypts. When it is gone it is retired.
type Ring struct {
	Generation uint64 // grows with every change, and never goes back
	Keys       []TicketKey
}

// Check refuses a ring that no node should be sent: one without a key, with more than [MaxRing],
// with a weak key, or with two keys of one name. The error wraps [ErrBadTicketKey].
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

// Version returns "g<generation>-<hash of the keys>". Generations have an order. So a node that
// reports a later one than the store has is a witness of lost writes.
func (r Ring) Version() string {
	h := sha256.New()
	for _, k := range r.Keys {
		h.Write(k[:])
	}
	return fmt.Sprintf("g%d-%s", r.Generation, hex.EncodeToString(h.Sum(nil)[:6]))
}

// ParseRingVersion returns the generation of a version. ok is true only for the exact form that
// [Ring.Version] writes. Nodes send versions, and a generation that is believed outlives the ring.
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

// ringPrefix begins the resource name of every ring. A server name has no slash, so the two kinds
// never clash.
const ringPrefix = "tickets/"

// RingName returns the resource name of a scope's ring: "tickets/<scope>".
func RingName(scope string) string { return ringPrefix + scope }

// RingScope returns the scope of a ring's resource name. ok is false for every other name.
func RingScope(resource string) (scope string, ok bool) {
	return strings.CutPrefix(resource, ringPrefix)
}
