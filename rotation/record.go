package rotation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// rolloutRecord is the stored form of a [Rollout]. Replicas of two versions write it in turn, so
// it grows by these rules. A field of the record that a version does not know is kept and written
// back as it is. What a version must understand to go on is named in needs. A version that does
// not know it leaves the record alone, and says so. A field within a key is never added without an
// entry in needs.
//
// The record alone is marshalled with key bytes in it. The store seals it.
type rolloutRecord struct {
	Format int `json:"format"`
	// Needs is empty: this version writes and knows none.
	Needs      []string             `json:"needs,omitempty"`
	Scope      string               `json:"scope"`
	Generation uint64               `json:"generation"`
	Phase      Phase                `json:"phase"`
	Since      time.Time            `json:"since"`
	Keys       []keyRecord          `json:"keys"`
	Begun      uint64               `json:"begun"`
	Ended      uint64               `json:"ended"`
	Wanted     *requestRecord       `json:"wanted,omitempty"`
	RetryAt    time.Time            `json:"retry_at,omitzero"`
	Hold       time.Time            `json:"hold,omitzero"`
	Tries      int                  `json:"tries,omitempty"`
	Refusers   map[string]Refusal   `json:"refusers,omitempty"`
	Excluded   map[string]time.Time `json:"excluded,omitempty"`
	Burnt      []string             `json:"burnt,omitempty"`
	Restored   []string             `json:"restored,omitempty"`
	Proven     uint64               `json:"proven,omitempty"`
	Doubted    []string             `json:"doubted,omitempty"`
	// Lifetimes are in nanoseconds, by fingerprint.
	Lifetimes map[string]time.Duration `json:"lifetimes,omitempty"`
	History   []Line                   `json:"history"`
	Lines     uint64                   `json:"lines"`
	Audit     string                   `json:"audit,omitempty"`
}

type keyRecord struct {
	Key         []byte    `json:"key"`
	Created     time.Time `json:"created"`
	Added       uint64    `json:"added"`
	Promoted    uint64    `json:"promoted,omitempty"`
	FirstUsed   time.Time `json:"first,omitzero"`
	Demoted     uint64    `json:"demoted,omitempty"`
	DemotedAt   time.Time `json:"left,omitzero"`
	UnusedSince time.Time `json:"idle,omitzero"`
}

type requestRecord struct {
	By  string    `json:"by"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
	Key []byte    `json:"key,omitempty"`
}

const rolloutFormat = 1

// errTooHigh is wrapped where a number in a record is one that no fleet reaches. Anyone can
// encrypt a backup to a public key, and from the highest numbers on a generation could not grow.
var errTooHigh = errors.New("a number which no fleet reaches")

// ErrDamaged is wrapped where a record is not one that any lockstepd wrote.
var ErrDamaged = errors.New("it is damaged")

// What a record holds at most. A NATS server takes messages of 1 MiB, and what is stored is
// sealed.
const (
	maxRecord = 768 << 10 // maxRecord bounds the bytes; the oldest lines of the history give way.
	// maxBurnt bounds the burnt keys; one that was burnt before so many others is forgotten.
	maxBurnt = 4096
	// ofGroup stands before a group's name among the refusers of a record. There a version that
	// knows no groups keeps it, drops it with the rotation, and shows it in these words.
	ofGroup = "all nodes of "

	// maxRefusers bounds the nodes whose refusals have a rotation taken back, and the groups.
	maxRefusers = 100
	maxExcluded = 500 // maxExcluded bounds the nodes that are excluded.
	maxNode     = 256 // maxNode bounds the bytes of a node id; no stream says more.
	maxReason   = 200 // maxReason bounds the bytes of the words of a Refusal.
)

// Encode returns the record of r, of at most 768 KiB.
func (r Rollout) Encode() ([]byte, error) {
	r.Burnt = r.Burnt[max(0, len(r.Burnt)-maxBurnt):]
	b, err := r.marshal()
	for err == nil && len(b) > maxRecord && len(r.History) > 1 {
		tooMany := len(b) - maxRecord
		for tooMany > 0 && len(r.History) > 1 {
			line, err := marshal(r.History[0])
			if err != nil {
				return nil, err
			}
			tooMany -= len(line)
			r.History = r.History[1:]
		}
		b, err = r.marshal()
	}
	if err == nil && len(b) > maxRecord {
		return nil, fmt.Errorf("the rollout of scope %q has %d bytes, %d at most are stored",
			r.Scope, len(b), maxRecord)
	}
	return b, err
}

// marshal is [json.Marshal] without the escapes that only HTML needs, of six bytes each.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (r Rollout) marshal() ([]byte, error) {
	rec := rolloutRecord{
		Format: rolloutFormat, Scope: r.Scope, Generation: r.Generation, Phase: r.Phase, Since: r.Since,
		Begun: r.Begun, Ended: r.Ended, RetryAt: r.RetryAt, Hold: r.Hold, Tries: r.Tries,
		Refusers: r.Refusers, Excluded: r.Excluded, Burnt: r.Burnt, Restored: r.Restored,
		Proven: r.Proven, Doubted: r.Doubted, Lifetimes: r.Lifetimes,
		History: r.History, Lines: r.Lines, Audit: r.Audit,
	}
	if first := r.groupRefusals(); len(first) > 0 {
		rec.Refusers = maps.Clone(rec.Refusers)
		if rec.Refusers == nil {
			rec.Refusers = map[string]Refusal{}
		}
		for group, at := range first {
			rec.Refusers[ofGroup+group] = Refusal{At: at, Words: "the first of them did"}
		}
	}
	for _, k := range r.Keys {
		rec.Keys = append(rec.Keys, keyRecord{
			k.Key[:], k.Created, k.Added, k.Promoted, k.FirstUsed, k.Demoted, k.DemotedAt, k.UnusedSince,
		})
	}
	if w := r.Wanted; w != nil {
		rec.Wanted = &requestRecord{By: w.By, Why: w.Why, At: w.At}
		if w.Key != nil {
			rec.Wanted.Key = w.Key[:]
		}
	}
	b, err := marshal(rec)
	if err != nil || len(r.later) == 0 {
		return b, err
	}
	later, err := marshal(r.later)
	if err != nil {
		return nil, err
	}
	return append(append(b[:len(b)-1], ','), later[1:]...), nil
}

// decodeRecord reads a record. later is what the record has beyond what this version knows. ok is
// false if b is of another version in some other way, or no record at all.
func decodeRecord(b []byte, rec *rolloutRecord) (later map[string]json.RawMessage, ok bool) {
	strict := func(b []byte) bool {
		*rec = rolloutRecord{}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if dec.Decode(rec) != nil {
			return false
		}
		_, err := dec.Token()
		return err == io.EOF
	}
	if strict(b) {
		return nil, true
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return nil, false
	}
	later = map[string]json.RawMessage{}
	for name, value := range fields {
		if !slices.Contains(recordFields, name) {
			later[name] = value
			delete(fields, name)
		}
	}
	known, err := json.Marshal(fields)
	return later, err == nil && strict(known)
}

// recordFields are the names of the fields that this version knows.
var recordFields = func() (names []string) {
	t := reflect.TypeFor[rolloutRecord]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}()

// Decode reads the record of a scope's rollout and checks all that [Rollout.Next] relies on. Its
// errors quote nothing of the record, which holds keys. They wrap [ErrDamaged], or say
// that a number is one that no fleet reaches, or that another version wrote the record.
func Decode(scope string, b []byte) (Rollout, error) {
	bad := func(format string, a ...any) (Rollout, error) {
		return Rollout{}, fmt.Errorf("the stored rollout of scope %q: %w: %s",
			scope, ErrDamaged, fmt.Sprintf(format, a...))
	}
	var rec rolloutRecord
	later, ok := decodeRecord(b, &rec)
	if !ok {
		if other := new(rolloutRecord); json.Unmarshal(b, other) == nil && other.Format > 0 {
			return Rollout{}, fmt.Errorf("the stored rollout of scope %q was written by another version of lockstepd: "+
				"it has fields that this one does not know", scope)
		}
		return bad("is not a record of format %d", rolloutFormat)
	}
	if len(rec.Needs) > 0 {
		return Rollout{}, fmt.Errorf("the stored rollout of scope %q was written by another version of lockstepd: "+
			"it needs %q, which this one does not know: use the version that wrote it", scope, rec.Needs)
	}
	if rec.Format != rolloutFormat {
		return Rollout{}, fmt.Errorf("the stored rollout of scope %q was written by another version of lockstepd: "+
			"it has format %d, this one reads %d", scope, rec.Format, rolloutFormat)
	}
	for _, n := range []struct {
		of string
		is uint64
	}{
		{"generation", rec.Generation}, {"number of rotations", rec.Begun},
		{"number of lines", rec.Lines}, {"generation that nodes proved", rec.Proven},
	} {
		if n.is > MaxGeneration {
			return Rollout{}, fmt.Errorf("the stored rollout of scope %q: the %s is %d, %w: "+
				"it was not made by lockstepd",
				scope, n.of, n.is, errTooHigh)
		}
	}
	if rec.Scope != scope {
		return bad("belongs to another scope")
	}
	r := Rollout{
		Scope: rec.Scope, Generation: rec.Generation, Phase: rec.Phase, Since: rec.Since,
		Begun: rec.Begun, Ended: rec.Ended, RetryAt: rec.RetryAt, Hold: rec.Hold, Tries: rec.Tries,
		Refusers: rec.Refusers, Excluded: rec.Excluded, Burnt: rec.Burnt, Restored: rec.Restored,
		Proven: rec.Proven, Doubted: rec.Doubted, History: rec.History,
		Lines: rec.Lines, Audit: rec.Audit, later: later,
	}
	for name, refusal := range r.Refusers {
		if group, ok := strings.CutPrefix(name, ofGroup); ok {
			if r.Groups.First == nil {
				r.Groups = GroupRefusals{Rotation: r.Begun, First: map[string]time.Time{}}
			}
			r.Groups.First[group] = refusal.At
			delete(r.Refusers, name)
		}
	}
	for i, k := range rec.Keys {
		if len(k.Key) != keysource.TicketKeySize {
			return bad("key %d has %d bytes", i, len(k.Key))
		}
		key := Key{
			keysource.TicketKey(k.Key), k.Created, k.Added, k.Promoted,
			k.FirstUsed, k.Demoted, k.DemotedAt, k.UnusedSince,
		}
		if r.isBurnt(key.Key) {
			return bad("holds a burnt key (%s)", key.Key.ID())
		}
		r.Keys = append(r.Keys, key)
	}
	r.Lifetimes = bounded(rec.Lifetimes)
	if err := r.Ring().Check(); err != nil {
		return bad("%v", err)
	}
	if w := rec.Wanted; w != nil {
		r.Wanted = &Request{By: w.By, Why: w.Why, At: w.At}
		if len(w.Key) > 0 {
			k, err := keysource.ParseTicketKey(w.Key)
			if err != nil {
				return bad("the requested key: %v", err)
			}
			r.Wanted.Key = &k
		}
	}
	if why := r.inconsistent(); why != "" {
		return bad("%s", why)
	}
	return r, nil
}

// inconsistent says how r differs from every rollout that Next can make. It returns "" if it does
// not.
func (r Rollout) inconsistent() string {
	if !slices.Contains([]Phase{Steady, Distributing, Promoting, Burning}, r.Phase) {
		return "is in no phase that this version knows"
	}
	if r.Ended > r.Begun || r.Phase != Steady && !r.underway() {
		return "has a phase that belongs to no rotation"
	}
	pending := 0
	for i, k := range r.Keys {
		switch {
		case max(k.Added, k.Promoted, k.Demoted) > r.Generation:
			return "has a key from a later generation"
		case i == 0 && k.Promoted == 0:
			return "begins with a key that never encrypted"
		case i == 0 && k.Demoted != 0:
			return "begins with a key that drains"
		case k.Promoted == 0:
			pending++
		case i > 0 && k.Demoted == 0:
			return "has a second key that encrypts"
		}
	}
	if r.Phase == Distributing && pending != 1 || r.Phase != Distributing && pending != 0 {
		return fmt.Sprintf("has %d keys that wait in phase %s", pending, r.Phase)
	}
	return ""
}
