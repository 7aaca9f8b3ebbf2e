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
	if val, _, err := raw.Get(ctx, guard.CopyingKey); err == nil {
		return nil, fmt.Errorf("a copy into this store has not ended: run it again (lockstep store copy %s …)", val)
	} else if !errors.Is(err, store.ErrNotExist) {
		return nil, err
	}
	load := seal.LoadOrCreate
	if !mayMake {
		load = seal.Load
	}
	for _, err := range raw.Keys(ctx, "") {
		if err != nil {
			return nil, err
		}
		load = seal.Load // a new key could open nothing of what is stored
		break
	}
	s, err := load(ctx, keys)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if err != nil {
		return nil, err
	}
	v := &Vault{Raw: guard.NewFreezable(raw, s), Sealer: s, raw: raw}
	v.Store = guard.Sealed(v.Raw, s)
	v.Damage = custody.Enter(ctx, v.Store, v.Raw, s)
	if !errors.Is(v.Damage, custody.ErrCanary) && !errors.Is(v.Damage, store.ErrFrozen) {
		return v, v.Damage
	}
	return v, nil
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
