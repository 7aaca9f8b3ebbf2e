// Package rotation changes the session ticket keys of a fleet without turning anybody away.
//
// A [Rollout] is the state of one scope: the keys in the order in which nodes get them, and the phase. [Rollout.Next] is the one
// decision, pure: from the state, the policy, what is known of the nodes and the time, it says what comes next. The
// [Coordinator] feeds it and writes its answer by compare-and-swap; every replica runs one and none is a leader. The roster
// remembers which node may hold which generation, also over a restart.
//
// The rule behind all of it: a node's floor is the lowest generation that it may be holding. A key may encrypt once every live
// floor has reached the generation that brought the key; it may go once every live floor has passed the generation that put
// another key first, and the last ticket made with it has grown old.
package rotation

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Phase is where a rollout stands.
type Phase string

const (
	Steady       Phase = "steady"       // [k1 …]: nothing under way; old keys may be draining
	Distributing Phase = "distributing" // [k1 … k2]: k2 decrypts only, until every live member accepted it
	Promoting    Phase = "promoting"    // [k2 k1 …]: k2 encrypts, until every live member accepted that
	Burning      Phase = "burning"      // [k9]: a fresh key replaced all, until nobody may hold a burnt one
)

// ErrRefused wraps every refusal of a command: the text says why, and what would help.
var ErrRefused = errors.New("refused")

// Rollout is the stored state of one scope. It is a value: the methods return a changed copy.
type Rollout struct {
	Scope      string
	Generation uint64 // of the ring; grows with every change
	Phase      Phase
	Since      time.Time // when the phase began
	Keys       []Key     // in ring order

	Begun   uint64    // number of the newest rotation or burn
	Ended   uint64    // number of the newest one that ended; below Begun while one is under way
	Wanted  *Request  // a rotation that was asked for and has not ended
	RetryAt time.Time // not before this is a new key distributed
	Hold    time.Time // no step before this: the store had lost the rosters
	Tries   int       // how often the rotation under way was taken back

	Refusers map[string]Refusal   // nodes that refused a ring of the rotation under way
	Excluded map[string]time.Time // nodes that are not waited for, until when
	Burnt    []string             // fingerprints that no border lets in again
	Restored []string             // fingerprints of keys that came back with a backup; see provenOld
	Proven   uint64               // with Doubted: the generation that nodes proved when the store had none so high
	Doubted  []string             // fingerprints of the keys that were in the ring then; see Doubt
	History  []Line               // newest last, at most maxHistory
	Lines    uint64               // how many lines were ever written
	Audit    string               // what Config.Record returned for the last of them

	later map[string]json.RawMessage // fields of the record that a later version has added; never changed
}

// Key is a ticket key with its life so far.
type Key struct {
	Key      keysource.TicketKey
	Created  time.Time
	Added    uint64    // the generation that brought it
	Promoted uint64    // the generation that put it first; 0: it never encrypted
	First    time.Time // when it first encrypted
	Demoted  uint64    // the generation that put another key first; 0: none did
	Left     time.Time // when that was
	Idle     time.Time // since when no live member may be encrypting with it; zero while one may
}

// Request asks for a rotation.
type Request struct {
	By, Why string
	At      time.Time
	Key     *keysource.TicketKey // distribute this one; nil: a fresh one
}

// Refusal is a node's first refusal in a rotation.
type Refusal struct {
	At    time.Time
	Words string // the node's own
}

// Ring is what is sent.
func (r Rollout) Ring() keysource.Ring {
	ring := keysource.Ring{Generation: r.Generation}
	for _, k := range r.Keys {
		ring.Keys = append(ring.Keys, k.Key)
	}
	return ring
}

// Underway reports whether a rotation or burn has begun and not ended.
func (r Rollout) Underway() bool { return r.Begun > r.Ended }

// next is the index of the key that only decrypts so far, or -1.
func (r Rollout) next() int {
	return slices.IndexFunc(r.Keys, func(k Key) bool { return k.Promoted == 0 })
}

func (r Rollout) burnt(k keysource.TicketKey) bool { return slices.Contains(r.Burnt, k.Fingerprint()) }

// clone returns a copy that shares nothing that is changed in place.
func (r Rollout) clone() Rollout {
	r.Keys = slices.Clone(r.Keys)
	r.Refusers = maps.Clone(r.Refusers)
	r.Excluded = maps.Clone(r.Excluded)
	r.Burnt = slices.Clone(r.Burnt)
	r.Restored = slices.Clone(r.Restored)
	r.Doubted = slices.Clone(r.Doubted)
	r.History = slices.Clone(r.History)
	return r
}

func (r *Rollout) enter(p Phase, now time.Time) {
	r.Phase, r.Since = p, now
}

// add appends a key that only decrypts.
func (r *Rollout) add(k keysource.TicketKey, now time.Time) {
	r.Generation++
	r.Keys = append(r.Keys, Key{Key: k, Created: now, Added: r.Generation})
}

// lead puts key i first: from this generation on it encrypts, and the one that did drains.
func (r *Rollout) lead(i int, now time.Time) {
	r.Generation++
	k := r.Keys[i]
	r.Keys = slices.Delete(r.Keys, i, i+1)
	if len(r.Keys) > 0 && r.Keys[0].Demoted == 0 {
		r.Keys[0].Demoted, r.Keys[0].Left, r.Keys[0].Idle = r.Generation, now, time.Time{}
	}
	k.Promoted, k.Demoted, k.Left, k.Idle = r.Generation, 0, time.Time{}, time.Time{}
	if k.First.IsZero() {
		k.First = now
	}
	r.Keys = slices.Insert(r.Keys, 0, k)
}

// drop removes key i.
func (r *Rollout) drop(i int) {
	r.Generation++
	f := r.Keys[i].Key.Fingerprint()
	r.Restored = slices.DeleteFunc(r.Restored, func(have string) bool { return have == f })
	r.Keys = slices.Delete(r.Keys, i, i+1)
}
