package problems

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	// maxAcked bounds the places that one acknowledgement names.
	maxAcked = 100
	// readAcksWithin bounds a look at the records.
	readAcksWithin = time.Second
)

// ack is the record of a code, which all replicas share. It is written whole, by one command.
type ack struct {
	api.Ack
	// Severity is the worst one that was known.
	Severity api.Severity `json:"severity"`
	// Where has the places that were known, with their counts.
	Where map[string]int `json:"where"`
}

// Acks are what operators have acknowledged. All methods are safe for concurrent use.
type Acks struct {
	Store store.Store

	mu    sync.Mutex
	known map[string]ack // known are those that were read last, by code.
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
	return k.write(ctx, code, val)
}

// Remove takes back what was acknowledged of a code. It reports whether something was.
func (k *Acks) Remove(ctx context.Context, code string) (bool, error) {
	_, _, err := k.Store.Get(ctx, store.Acknowledged.Key(code))
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	return true, k.write(ctx, code, nil)
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

// Apply marks what was acknowledged and has not got worse since. While the store cannot be read,
// what was read last counts.
func (k *Acks) Apply(ctx context.Context, all []api.Problem, now time.Time) {
	known := k.read(ctx, all)
	for i := range all {
		p := &all[i]
		if a, ok := known[p.Code]; ok && a.covers(*p, now) {
			p.Acknowledged = &a.Ack
		}
	}
}

// read returns the records of the codes that stand. With no problem the store is not asked.
func (k *Acks) read(ctx context.Context, all []api.Problem) map[string]ack {
	var codes, keys []string
	for _, p := range all {
		if !slices.Contains(codes, p.Code) {
			codes, keys = append(codes, p.Code), append(keys, store.Acknowledged.Key(p.Code))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readAcksWithin)
	defer cancel()
	values := store.GetAll(ctx, k.Store, keys)
	k.mu.Lock()
	defer k.mu.Unlock()
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
	return now
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
