package stores

import (
	"context"
	"errors"

	"github.com/lockstep-tls/lockstep/seal/custody"
)

// Recreate implements [store.Store]. The store gets its canary again.
func (v *Vault) Recreate(ctx context.Context) error {
	if err := v.Store.Recreate(ctx); err != nil {
		return err
	}
	return custody.Prove(ctx, v.Store, v.Raw, v.Sealer)
}

// Unsealed returns why a record that does not open need not be damaged. Then no record of the
// store opens, since this is not the sealing key that it is written with, or the store cannot be
// read.
func (v *Vault) Unsealed(ctx context.Context) error {
	err := custody.Prove(ctx, v.Store, v.Raw, v.Sealer)
	if errors.Is(err, custody.ErrCanary) { // others open
		return nil
	}
	return err
}
