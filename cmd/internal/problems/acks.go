package problems

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	// maxAcked bounds the places that one acknowledgement names.
	maxAcked = 100
	// maxForeign bounds the codes that are looked for although this version does not know them.
	maxForeign = 100
)

// ack is the record of a code, which all replicas share. It is written whole, by one command.
type ack struct {
	api.Ack
	// Severity is the worst one that was known.
	Severity api.Severity `json:"severity"`
	// Where has the places that were known, with their counts.
	Where map[string]int `json:"where"`
}

// Acks are what operators have acknowledged. They are kept in memory: only Read, Put and Remove use
// the store. All methods are safe for concurrent use.
type Acks struct {
	Store store.Store

	mu      sync.Mutex
	known   map[string]ack      // known are those that were read last, by code.
	foreign map[string]struct{} // foreign are codes of other versions that were seen.
	written int                 // written counts the changes that were made here.
}

// Put acknowledges all problems of a code that stand in all, until a.Until. There must be one.
func (k *Acks) Put(ctx context.Context, code string, a api.Ack, all []api.Problem) error {
	rec := ack{Ack: a, Where: map[string]int{}}
	for _, p := range all {
		if p.Code != code {
			continue
		}
		if rec.Severity == "" || worse(p.Severity, rec.Severity) {
			rec.Severity = p.Severity
		}
		if len(rec.Where) < maxAcked {
			rec.Where[p.Where] = max(rec.Where[p.Where], p.Count) // of several replicas
		}
	}
	if len(rec.Where) == 0 {
		return &api.Error{Message: fmt.Sprintf("status shows no problem %q now", code), Code: api.NotFound}
	}
	val, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return k.keep(code, &rec, k.write(ctx, code, val))
}

// Remove takes back what was acknowledged of a code. It reports whether something was.
func (k *Acks) Remove(ctx context.Context, code string) (bool, error) {
	_, _, err := k.Store.Get(ctx, store.Acknowledged.Key(code))
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	return true, k.keep(code, nil, k.write(ctx, code, nil))
}

// keep has what was written count here at once.
func (k *Acks) keep(code string, rec *ack, err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.written++ // also after an error, since then the outcome is unknown
	switch {
	case err != nil:
	case rec == nil:
		delete(k.known, code)
	default:
		if k.known == nil {
			k.known = map[string]ack{}
		}
		k.known[code] = *rec
	}
	return err
}

func (k *Acks) write(ctx context.Context, code string, val []byte) error {
	key := store.Acknowledged.Key(code)
	for {
		_, rev, err := k.Store.Get(ctx, key)
		switch {
		case err == nil, errors.Is(err, store.ErrSealed): // one that does not open is replaced
		case !errors.Is(err, store.ErrNotExist):
			return err
		case val == nil:
			return nil
		}
		if _, err = k.Store.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Apply marks what was acknowledged and has not got worse since, as far as was read.
func (k *Acks) Apply(all []api.Problem, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range all {
		p := &all[i]
		if _, ours := Find(p.Code); !ours && len(k.foreign) < maxForeign {
			if k.foreign == nil {
				k.foreign = map[string]struct{}{}
			}
			k.foreign[p.Code] = struct{}{}
		}
		if a, ok := k.known[p.Code]; ok && a.covers(*p, now) {
			known := a.Ack
			p.Acknowledged = &known
		}
	}
}

// Read reads the records of all codes. What cannot be read stays as it was read last.
func (k *Acks) Read(ctx context.Context) {
	k.mu.Lock()
	written, codes := k.written, slices.Collect(maps.Keys(k.foreign))
	k.mu.Unlock()
	for _, kind := range Register {
		codes = append(codes, kind.Code)
	}
	keys := make([]string, len(codes))
	for i, code := range codes {
		keys[i] = store.Acknowledged.Key(code)
	}
	values := store.GetAll(ctx, k.Store, keys)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.written != written {
		return // what was read may be from before the change
	}
	now := map[string]ack{}
	for i, v := range values {
		var a ack
		switch {
		case v.Err == nil && json.Unmarshal(v.Val, &a) == nil:
			now[codes[i]] = a
		case v.Err != nil && !errors.Is(v.Err, store.ErrNotExist):
			if old, ok := k.known[codes[i]]; ok {
				now[codes[i]] = old
			}
		}
	}
	k.known = now
}

// noticedWithin is how much later than the one that was asked other replicas may notice a problem.
const noticedWithin = time.Minute

// covers reports whether a is about p as it stands. A problem that began more than a minute after
// the acknowledgement is another one. So is one at another place, of more things, or more severe.
func (a ack) covers(p api.Problem, now time.Time) bool {
	count, known := a.Where[p.Where]
	return known && now.Before(a.Until) && !p.Since.After(a.At.Add(noticedWithin)) && p.Count <= count &&
		!worse(p.Severity, a.Severity)
}
