package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/lockstep-tls/lockstep/cmd/internal/check"
	"github.com/lockstep-tls/lockstep/cmd/internal/kek"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
)

// Look tells r what Open would say of a directory, its store and the sealing key. It changes
// nothing, and locks nothing that a running lockstepd has locked. place says where a key of the
// configuration stands.
func Look(ctx context.Context, c Config, r *check.Report, place func(key string) string) {
	if !LookAtPlace(c, r, place) {
		return // what would lie there cannot be looked at
	}
	bad := c.refuse(r, place)
	c.lookAtStore(ctx, r, bad)
	for _, name := range words {
		if _, err := readWord(filepath.Join(c.Path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			bad("data_dir", err)
		}
	}
}

func (c Config) refuse(r *check.Report, place func(key string) string) func(key string, err error) {
	return func(key string, err error) {
		r.Refused(place(key), fmt.Errorf("data directory %s: %w", c.Path, err))
	}
}

// LookAtPlace is the part of [Look] that needs no sealing key: the directory itself, and the URL of
// the store. It returns false if there can be no directory.
func LookAtPlace(c Config, r *check.Report, place func(key string) string) bool {
	bad := c.refuse(r, place)
	there, err := check.Dir(c.Path)
	switch {
	case err != nil:
		bad("data_dir", err)
	case there:
		r.Checked("the data directory %s", c.Path)
	default:
		r.Note("the data directory %s is made at the start", c.Path)
	}
	if c.Store != Embedded {
		for _, err := range stores.Faults(c.Store) {
			bad("store", err)
		}
	}
	return err == nil
}

func (c Config) lookAtStore(ctx context.Context, r *check.Report, bad func(string, error)) {
	mayMake := c.mayMake()
	var raw stores.Store
	switch {
	case c.Store != Embedded:
		r.Left("whether the store %s answers, and whether the sealing key opens it", stores.Redact(c.Store))
	default:
		var err error
		raw, err = stores.OpenToRead(c.Path)
		switch {
		case err == nil:
			defer raw.Close()
		case errors.Is(err, stores.ErrInUse):
			r.Left("the store of %s, which a lockstepd that runs has open", c.Path)
			mayMake = false // what it has open is not empty
		case errors.Is(err, fs.ErrNotExist):
			r.Note("the store is new")
		default:
			bad("data_dir", err)
		}
	}
	keys, err := c.source()
	if err != nil {
		bad("kek", err)
		return
	}
	makes, err := stores.Look(ctx, raw, keys, mayMake)
	if makes && c.KEK != "" { // else it is made with the directory
		err = stores.NoKey(kek.LookForNew(c.KEK))
	}
	switch {
	case err != nil:
		bad("kek", c.advise(err))
	case makes && c.Store != Embedded:
		r.Note("there is no sealing key in the %s: one is made if the store is empty, else the start is refused", keys)
	case makes:
		r.Note("the sealing key is made at the start: %s", keys)
	case raw != nil:
		r.Checked("the sealing key, %s: it opens the store", keys)
	default:
		r.Checked("the sealing key, %s", keys)
	}
}
