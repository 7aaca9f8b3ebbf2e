// Package memory is the in-memory twin of the store's drivers: for tests, and for what need not
// outlive the process.
package memory

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// Store keeps the [store.Store] contract in memory. Nothing is durable.
type Store struct {
	mu      sync.RWMutex
	head    store.Rev
	byKey   map[string]*list.Element // deleted keys too: [Store.Changed] tells of them
	changes *list.List               // of record, one a key, in the order of the last change
}

type record struct {
	key string
	rev store.Rev
	val []byte // nil: deleted
}

// New returns an empty store.
func New() *Store {
	return &Store{byKey: make(map[string]*list.Element), changes: list.New()}
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.live(key)
	if !ok {
		return nil, 0, fmt.Errorf("%w: %s", store.ErrNotExist, key)
	}
	return bytes.Clone(r.val), r.rev, nil
}

// Swap implements [store.Store].
func (s *Store) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.live(key)
	if r.rev != old {
		return 0, fmt.Errorf("%w: %s is at revision %d, not %d", store.ErrConflict, key, r.rev, old)
	}
	if !ok && val == nil { // nothing to delete
		return s.head, nil
	}
	s.head++
	next := record{key, s.head, bytes.Clone(val)}
	if e := s.byKey[key]; e != nil {
		e.Value = next
		s.changes.MoveToBack(e)
	} else {
		s.byKey[key] = s.changes.PushBack(next)
	}
	return s.head, nil
}

// Changed implements [store.Store].
func (s *Store) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []string
	for e := s.changes.Back(); e != nil && e.Value.(record).rev > since; e = e.Prev() {
		if key := e.Value.(record).key; strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, s.head, nil
}

// Keys implements [store.Store]. It yields the keys of one moment.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, key := range s.under(prefix) {
			if ctx.Err() != nil {
				break
			}
			if !yield(key, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield("", err)
		}
	}
}

// GetAll implements [store.Store].
func (s *Store) GetAll(ctx context.Context, keys []string) []store.Value {
	return store.OneByOne(s).GetAll(ctx, keys)
}

// SwapAll implements [store.Store].
func (s *Store) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	return store.OneByOne(s).SwapAll(ctx, changes)
}

// KeysAfter implements [store.Store].
func (s *Store) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return store.OneByOne(s).KeysAfter(ctx, prefix, last)
}

// Recreate implements [store.Store]. It does nothing: memory is not lost while the process lives.
func (s *Store) Recreate(ctx context.Context) error { return ctx.Err() }

// Now implements [store.Store].
func (s *Store) Now(ctx context.Context) (time.Time, error) { return time.Now(), ctx.Err() }

func (s *Store) live(key string) (record, bool) {
	e := s.byKey[key]
	if e == nil || e.Value.(record).val == nil {
		return record{}, false
	}
	return e.Value.(record), true
}

func (s *Store) under(prefix string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []string
	for key, e := range s.byKey {
		if strings.HasPrefix(key, prefix) && e.Value.(record).val != nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
