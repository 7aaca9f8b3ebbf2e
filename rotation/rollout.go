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

// The phases; the package comment shows the ring that belongs to each.
const (
	// Steady means that no rotation is under way. Old keys may drain.
	Steady Phase = "steady"
	// Distributing lasts until every live member accepted the new key.
	Distributing Phase = "distributing"
	// Promoting lasts until every live member accepted it as the first.
	Promoting Phase = "promoting"
	Burning   Phase = "burning" // Burning lasts until nobody may hold a burnt key.
)

var (
	// ErrRefused wraps every refusal of a command. The text says why, and what would help.
	ErrRefused = errors.New("refused")
	// ErrUnderway is the refusal of a key that was brought while a rotation is under way.
	ErrUnderway = errors.New("is under way; wait for it and ask again")
	// ErrTooManyExcluded is the refusal of one more exclusion.
	ErrTooManyExcluded = errors.New("are excluded already: take some of them back")
)

// Rollout is the stored state of one scope. It is a value: its methods return a changed copy.
type Rollout struct {
	Scope      string
	Generation uint64    // Generation is that of the ring. It grows with every change.
	Phase      Phase     // Phase is where the rollout stands.
	Since      time.Time // Since is when the phase began.
	Keys       []Key     // Keys are in the order of the ring.

	Begun uint64 // Begun is the number of the newest rotation or burn.
	// Ended is the number of the newest one that ended. It is below Begun while one is under way.
	Ended   uint64
	Wanted  *Request  // Wanted is a rotation that was asked for and has not ended.
	RetryAt time.Time // RetryAt is before when no new key is distributed.
	Hold    time.Time // Hold is before when no step is made, since the store had lost the rosters.
	Tries   int       // Tries is how often the rotation under way was taken back.

	// Refusers are the nodes that refused a ring of the rotation under way.
	Refusers map[string]Refusal
	// Groups has when each group of members refused first in the rotation under way.
	Groups   GroupRefusals
	Excluded map[string]time.Time // Excluded are the nodes that are not waited for, and until when.
	Burnt    []string             // Burnt are fingerprints of keys that may never come back.
	Restored []string             // Restored are fingerprints of keys that came back with a backup.
	// Proven is the generation that nodes proved when the store had none so high.
	Proven uint64
	// Doubted are the fingerprints of the keys that were in the ring then.
	Doubted []string
	// Lifetimes are the longest ticket_lifetimes that tickets of the keys were issued with, by
	// fingerprint; see noteLifetimes.
	Lifetimes map[string]time.Duration
	History   []Line // History has the newest line last, and at most maxHistory lines.
	Lines     uint64 // Lines is how many lines were ever written.
	// Audit is where the audit log holds the last line that was written down.
	Audit string

	// later holds fields that a later version has added. They never change.
	later map[string]json.RawMessage
}

// Key is a ticket key with its life so far.
type Key struct {
	Key     keysource.TicketKey
	Created time.Time
	Added   uint64 // Added is the generation that brought the key.
	// Promoted is the generation that put it first. It is 0 if the key never encrypted.
	Promoted  uint64
	FirstUsed time.Time // FirstUsed is when it first encrypted.
	// Demoted is the generation that put another key first. It is 0 if none did.
	Demoted   uint64
	DemotedAt time.Time // DemotedAt is when that was.
	// UnusedSince is since when no live member may encrypt with it; zero while one may.
	UnusedSince time.Time
}

// Request asks for a rotation.
type Request struct {
	By, Why string
	At      time.Time
	Key     *keysource.TicketKey // Key is the one to distribute. It is nil for a fresh one.
}

// Refusal is a node's first refusal in a rotation.
type Refusal struct {
	At    time.Time
	Words string // Words are the node's own.
}

// GroupRefusals are the first refusals of groups of members (Member.Group) in one rotation.
type GroupRefusals struct {
	Rotation uint64
	First    map[string]time.Time
}

// Ring returns what is sent to nodes.
func (r Rollout) Ring() keysource.Ring {
	ring := keysource.Ring{Generation: r.Generation}
	for _, k := range r.Keys {
		ring.Keys = append(ring.Keys, k.Key)
	}
	return ring
}

// underway reports whether a rotation or burn has begun and not ended.
func (r Rollout) underway() bool { return r.Begun > r.Ended }

// pendingKey returns the index of the key that only decrypts so far, or -1.
func (r Rollout) pendingKey() int {
	return slices.IndexFunc(r.Keys, func(k Key) bool { return k.Promoted == 0 })
}

func (r Rollout) isBurnt(k keysource.TicketKey) bool {
	return slices.Contains(r.Burnt, k.Fingerprint())
}

// clone returns a copy that shares nothing that is changed in place.
func (r Rollout) clone() Rollout {
	r.Keys = slices.Clone(r.Keys)
	r.Refusers = maps.Clone(r.Refusers)
	r.Groups.First = maps.Clone(r.Groups.First)
	r.Excluded = maps.Clone(r.Excluded)
	r.Lifetimes = maps.Clone(r.Lifetimes)
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

// promote puts key i first. From this generation on it encrypts, and the key that did so drains.
func (r *Rollout) promote(i int, now time.Time) {
	r.Generation++
	k := r.Keys[i]
	r.Keys = slices.Delete(r.Keys, i, i+1)
	if len(r.Keys) > 0 && r.Keys[0].Demoted == 0 {
		r.Keys[0].Demoted, r.Keys[0].DemotedAt, r.Keys[0].UnusedSince = r.Generation, now, time.Time{}
	}
	k.Promoted, k.Demoted, k.DemotedAt, k.UnusedSince = r.Generation, 0, time.Time{}, time.Time{}
	if k.FirstUsed.IsZero() {
		k.FirstUsed = now
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

// WrittenBack returns r for a store that had lost it. It holds every step until a time, since
// rosters may be lost with it. why says what the store had instead.
func (r Rollout) WrittenBack(hold time.Time, why string, now time.Time) Rollout {
	r = r.clone()
	r.Hold = hold
	r.log(Line{At: now, What: lineWrittenBack, By: "lockstepd", Why: why})
	return r
}
