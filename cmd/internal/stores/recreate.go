package stores

import (
	"context"
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
