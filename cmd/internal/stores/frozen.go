package stores

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// The keys of this package.
var (
	frozenKey  = store.Key("store", "frozen")  // while it is there, nothing changes
	copyingKey = store.Key("store", "copying") // while it is there, a copy into this store has not ended
)

// ErrFrozen is [store.ErrFrozen].
var ErrFrozen = store.ErrFrozen

// Notice says who froze a store and why.
type Notice struct {
	By  string    `json:"by"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
}

func (n Notice) String() string {
	return fmt.Sprintf("by %s at %s: %s (lockstep store thaw ends it)", n.By, n.At.UTC().Format(time.RFC3339), n.Why)
}

// Freezable is a store, beneath its seal, that refuses changes while a record in it says so. Every replica goes by that record, and it is copied along:
// so neither the old nor the new store changes until the last replica has moved. What a replica says of itself and of its nodes passes, since nodes come
// and go meanwhile: "roster/" and "seal/replica/".
type Freezable struct {
	store.Store
	sealer store.Sealer
}

// Swap implements [store.Store]. A refused change is certain not to be made; the error wraps [ErrFrozen]. One that was under way while the store was
// frozen may be missing in the copy: it fails, and whether it is in either store is not known. So what was acknowledged is in the copy: it was there
// before the record, and a copy looks again after that.
func (f *Freezable) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if !passes(key) {
		n, frozen, err := f.Frozen(ctx)
		if err != nil {
			return 0, fmt.Errorf("store: %s was not written: %w", key, err)
		}
		if frozen {
			return 0, fmt.Errorf("store: %s was not written: %w %s", key, ErrFrozen, n)
		}
	}
	rev, err := f.Store.Swap(ctx, key, old, val)
	if err != nil || passes(key) {
		return rev, err
	}
	n, frozen, err := f.Frozen(ctx)
	if err = overtaken(key, n, frozen, err); err != nil {
		return 0, err
	}
	return rev, nil
}

// overtaken is an error if what was just written may be missing in a copy; the other arguments are what Frozen said after that.
func overtaken(key string, n Notice, frozen bool, err error) error {
	switch {
	case passes(key):
		return nil
	case err != nil:
		return fmt.Errorf("store: whether %s was written before the store was frozen is not known: %w", key, err)
	case frozen:
		return fmt.Errorf("store: the store was frozen while %s was written, and a copy may lack it: read it again once it is thawed (frozen %s)", key, n)
	}
	return nil
}

// passes: a record that may change while the store is frozen, and that need not be the same in a copy.
func passes(key string) bool {
	return strings.HasPrefix(key, "roster/") || strings.HasPrefix(key, "seal/replica/")
}

// Frozen tells whether the store is frozen, by whom and why.
func (f *Freezable) Frozen(ctx context.Context) (n Notice, frozen bool, err error) {
	val, _, err := f.Get(ctx, frozenKey)
	if errors.Is(err, store.ErrNotExist) {
		return n, false, nil
	}
	if err != nil {
		return n, false, err
	}
	if plain, err := f.sealer.Open(val, []byte(frozenKey)); err != nil || json.Unmarshal(plain, &n) != nil {
		n = Notice{By: "somebody", Why: "the record " + frozenKey + " cannot be read"}
	}
	return n, true, nil
}

// Freeze stops all changes; a store that is frozen keeps its first notice.
func (f *Freezable) Freeze(ctx context.Context, n Notice) error {
	plain, err := json.Marshal(n)
	if err != nil {
		return err
	}
	val, err := f.sealer.Seal(plain, []byte(frozenKey))
	if err != nil {
		return err
	}
	if _, err = f.Store.Swap(ctx, frozenKey, 0, val); errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// Thaw lets changes happen again.
func (f *Freezable) Thaw(ctx context.Context) error {
	for {
		_, rev, err := f.Get(ctx, frozenKey)
		if errors.Is(err, store.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err = f.Store.Swap(ctx, frozenKey, rev, nil); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
