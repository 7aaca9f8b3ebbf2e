package stores

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/store"
)

// Recreate makes a store usable again that said [store.ErrLost], with its canary.
func (v *Vault) Recreate(ctx context.Context) error {
	r, ok := v.raw.(interface{ Recreate(context.Context) error })
	if !ok {
		return fmt.Errorf("this store does not tell that it was emptied: %w", store.ErrLost)
	}
	if err := r.Recreate(ctx); err != nil {
		return err
	}
	return custody.Prove(ctx, v.Store, v.Raw, v.Sealer)
}

// Unsealed tells why a record that does not open need not be damaged: no record of the store opens, since this is not the sealing key that it is written with, or
// that is not known, since the store cannot be read.
func (v *Vault) Unsealed(ctx context.Context) error {
	err := custody.Prove(ctx, v.Store, v.Raw, v.Sealer)
	if errors.Is(err, custody.ErrCanary) { // others open
		return nil
	}
	return err
}
