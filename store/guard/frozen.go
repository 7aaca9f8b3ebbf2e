package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// CopyingKey is there while a copy into this store has not ended.
var CopyingKey = store.Conditions.Key("copying")

// ErrOvertaken says that a change was made while the store was frozen, and that a copy may lack it.
var ErrOvertaken = errors.New("a copy may lack it")

// frozenKey is there while nothing may change.
var frozenKey = store.Conditions.Key("frozen")

// Notice says who froze a store and why.
type Notice struct {
	By  string    `json:"by"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
}

// String is for people.
func (n Notice) String() string {
	return fmt.Sprintf("by %s at %s: %s", n.By, n.At.UTC().Format(time.RFC3339), n.Why)
}

// Freezable is a store, beneath its seal, that refuses changes while a record in it says so.
// Every replica goes by that record, and a copy of the store has it too. So neither the old nor
// the new store changes until the last replica has moved. What the register allows
// ([store.Prefix], WhileFrozen) changes nevertheless.
//
// A refused change was certainly not made, and its error wraps [store.ErrFrozen]. A change that
// was under way while the store was frozen may be missing in a copy. It fails, and whether it is
// in either store is not known. So a copy holds all that was acknowledged: that was there before
// the record, and a copy looks again after it.
type Freezable struct {
	hooks
	sealer Sealer
}

// NewFreezable returns inner with a freeze. The notice in it is sealed with s.
func NewFreezable(inner store.Store, s Sealer) *Freezable {
	f := &Freezable{sealer: s}
	f.hooks = hooks{inner: inner, swap: f.unfrozen}
	return f
}

func (f *Freezable) unfrozen(ctx context.Context, changes []store.Change, do swapper) []store.Outcome {
	passes := func(key string) bool { return store.PrefixOf(key).WhileFrozen }
	if !slices.ContainsFunc(changes, func(c store.Change) bool { return !passes(c.Key) }) {
		return do(changes)
	}
	n, frozen, err := f.Frozen(ctx)
	out := only(changes, func(c *store.Change) error {
		switch {
		case passes(c.Key):
			return nil
		case err != nil:
			return fmt.Errorf("store: %s was not written: %w", c.Key, err)
		case frozen:
			return fmt.Errorf("store: %s was not written: %w %s", c.Key, store.ErrFrozen, n)
		}
		return nil
	}, do)
	var made []int
	for i, o := range out {
		if o.Err == nil && !passes(changes[i].Key) {
			made = append(made, i)
		}
	}
	if len(made) == 0 {
		return out
	}
	n, frozen, err = f.Frozen(ctx)
	for _, i := range made {
		if doubt := overtaken(changes[i].Key, n, frozen, err); doubt != nil {
			out[i] = store.Outcome{Err: doubt}
		}
	}
	return out
}

// overtaken is an error if a change that was just made may be missing in a copy. The other
// arguments are what Frozen said after the change.
func overtaken(key string, n Notice, frozen bool, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("store: whether %s was written before the store was frozen is not known: %w", key, err)
	case frozen:
		return fmt.Errorf("store: the store was frozen while %s was written, and %w: "+
			"read it again once it is thawed (frozen %s)", key, ErrOvertaken, n)
	}
	return nil
}

// Frozen tells whether the store is frozen, by whom and why.
func (f *Freezable) Frozen(ctx context.Context) (n Notice, frozen bool, err error) {
	val, _, err := f.inner.Get(ctx, frozenKey)
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

// Freeze stops all changes. A store that is frozen keeps its first notice.
func (f *Freezable) Freeze(ctx context.Context, n Notice) error {
	plain, err := json.Marshal(n)
	if err != nil {
		return err
	}
	val, err := f.sealer.Seal(plain, []byte(frozenKey))
	if err != nil {
		return err
	}
	if _, err = f.inner.Swap(ctx, frozenKey, 0, val); errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// Thaw lets changes happen again.
func (f *Freezable) Thaw(ctx context.Context) error {
	for {
		_, rev, err := f.inner.Get(ctx, frozenKey)
		if errors.Is(err, store.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err = f.inner.Swap(ctx, frozenKey, rev, nil); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
