package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/kek"
	"github.com/lockstep-tls/lockstep/cmd/internal/place"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/store/bolt"
)

// offline is a store that is worked on without lockstepd.
type offline struct {
	store, kek string
	kekNew     bool
}

func (o *offline) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(
		&o.store, "store", "", "`URL` of a store to work on without lockstepd, instead of the one in --data-dir")
	cmd.Flags().StringVar(
		&o.kek, "kek", "", "its sealing key without lockstepd: a file, credential:NAME or env:VARIABLE (default: "+
			"in --data-dir)")
}

// openOffline opens the store that is named, or that of the data directory. If a lockstepd has it
// open, it returns nil, and the caller asks that lockstepd. With create, a missing data directory
// is made.
func (a *app) openOffline(ctx context.Context, o offline, create bool) (*stores.Vault, error) {
	where := o.store
	if where == "" {
		if a.server != "" {
			return nil, nil
		}
		if !a.explicitDir {
			if err := place.Forgotten(a.dataDir); err != nil {
				return nil, err
			}
		}
		where = a.dataDir
		if !stores.HasEmbedded(where) {
			_, err := os.Stat(filepath.Join(where, addrFile))
			if !create || !errors.Is(err, fs.ErrNotExist) {
				// its store is elsewhere, or there is nothing
				return nil, nil
			}
		}
	}
	raw, err := stores.Open(ctx, where)
	if errors.Is(err, bolt.ErrInUse) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, err := kek.Source(cmp.Or(o.kek, filepath.Join(a.dataDir, stores.KeyFile)))
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	v, err := stores.Unlock(ctx, raw, keys, o.kek == "" || o.kekNew)
	if create && o.kek != "" && errors.Is(err, stores.ErrNoKey) {
		err = fmt.Errorf("--kek: %w: put it there; or give --kek-new, and one is made if the store is empty", err)
	}
	return v, err
}
