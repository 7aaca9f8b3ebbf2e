package datadir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Names keeps the names of a replica's certificate directory over a restart. Each replica has a
// directory of its own.
type Names struct {
	Store   store.Store
	Replica string
}

func (n Names) key() string { return store.DirectoryNames.Key(n.Replica) }

// Load returns the names that were saved last.
func (n Names) Load(ctx context.Context) (names []keysource.Name, err error) {
	val, _, err := n.Store.Get(ctx, n.key())
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(val, &names); err != nil {
		return nil, fmt.Errorf("the stored names of the directory: %w", err)
	}
	return names, nil
}

// Save replaces the names.
func (n Names) Save(ctx context.Context, names []keysource.Name) error {
	val, err := json.Marshal(names)
	if err != nil {
		return err
	}
	for {
		_, rev, err := n.Store.Get(ctx, n.key())
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = n.Store.Swap(ctx, n.key(), rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
