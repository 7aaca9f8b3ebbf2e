package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
)

// ErrFrozen is [store.ErrFrozen].
var ErrFrozen = store.ErrFrozen

// Vault is a store that was opened with its sealing key.
type Vault struct {
	store.Store                  // sealed
	Raw         *guard.Freezable // the store beneath the seal
	Sealer      *seal.Sealer
	Damage      error // what is wrong with the canary although the key is right
	raw         Store
}

// Close ends all use.
func (v *Vault) Close() error { return v.raw.Close() }

// ErrNoKey means that the source of the sealing key has none, and that none was to be made.
var ErrNoKey = errors.New("there is no sealing key")

// Unlock reads the sealing key, and proves that it opens what is stored. If the store is empty and
// the source has no keyset, it makes one if mayMake says so. Else the error wraps [ErrNoKey].
// After an error raw is closed. The errors are those of [custody.Enter] and package seal. A store
// into which a copy has not ended is refused.
func Unlock(ctx context.Context, raw Store, keys seal.Keys, mayMake bool) (_ *Vault, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, raw.Close())
		}
	}()
	empty, err := begin(ctx, raw)
	if err != nil {
		return nil, err
	}
	load := seal.Load
	if empty && mayMake {
		load = seal.LoadOrCreate
	}
	s, err := load(ctx, keys)
	if err != nil {
		return nil, NoKey(err)
	}
	v := &Vault{Raw: guard.NewFreezable(raw, s), Sealer: s, raw: raw}
	v.Store = guard.Sealed(v.Raw, s)
	v.Damage = custody.Enter(ctx, v.Store, v.Raw, s)
	if !errors.Is(v.Damage, custody.ErrCanary) && !errors.Is(v.Damage, store.ErrFrozen) {
		return v, v.Damage
	}
	return v, nil
}

// begin refuses a store into which a copy has not ended, and reports whether it is empty. Only then
// a sealing key may be made: a new one could open nothing of what is stored.
func begin(ctx context.Context, raw store.Store) (empty bool, err error) {
	if val, _, err := raw.Get(ctx, guard.CopyingKey); err == nil {
		return false, fmt.Errorf("a copy into this store has not ended: run it again (lockstep store copy %s …)", val)
	} else if !errors.Is(err, store.ErrNotExist) {
		return false, err
	}
	empty = true
	for _, err := range raw.Keys(ctx, "") {
		if err != nil {
			return false, err
		}
		empty = false
		break
	}
	return empty, nil
}

// NoKey returns err, and has it wrap [ErrNoKey] if it says that there is none.
func NoKey(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	return err
}

// Look finds out what Unlock would say, and writes nothing. raw is nil if there is no store yet.
// makes reports that Unlock would make a sealing key.
func Look(ctx context.Context, raw Store, keys seal.Keys, mayMake bool) (makes bool, err error) {
	empty := true
	if raw != nil {
		if empty, err = begin(ctx, raw); err != nil {
			return false, err
		}
	}
	s, err := seal.Load(ctx, keys)
	switch {
	case errors.Is(err, fs.ErrNotExist) && empty && mayMake:
		return true, nil
	case err != nil:
		return false, NoKey(err)
	case raw == nil:
		return false, nil
	}
	v := guard.NewFreezable(raw, s)
	err = custody.Look(ctx, guard.Sealed(v, s), v, s)
	if errors.Is(err, custody.ErrCanary) || errors.Is(err, store.ErrFrozen) { // as in Unlock
		err = nil
	}
	return false, err
}

// Records implements [Records].
func (v *Vault) Records(ctx context.Context, since store.Rev, f func(key string, val []byte) error) (store.Rev, error) {
	return Reader{v.Raw}.Records(ctx, since, f)
}

// Freeze stops all changes, in every process that has the store open.
func (v *Vault) Freeze(ctx context.Context, by, why string, now time.Time) error {
	return v.Raw.Freeze(ctx, guard.Notice{By: by, Why: why, At: now})
}

// Thaw lets changes happen again.
func (v *Vault) Thaw(ctx context.Context) error { return v.Raw.Thaw(ctx) }
