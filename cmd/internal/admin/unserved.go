package admin

import (
	"context"
	"errors"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
)

// unserved returns the names of c besides n that neither source has, nor their wildcard.
func (a *admin) unserved(ctx context.Context, n keysource.Name, c keysource.Certificate) []string {
	var names []keysource.Name
	for _, s := range c.Names {
		if other, err := keysource.ServerName(s); err == nil && other != n && !a.dirHas(other) {
			names = append(names, other)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookForClashes)
	defer cancel()
	return a.notStored(ctx, names)
}

// unservedOf does so for the entries of a page that come from the directory. What the store cannot
// tell in time is left out.
func (a *admin) unservedOf(ctx context.Context, page []api.Cert, names map[string][]keysource.Name) {
	ctx, cancel := context.WithTimeout(ctx, lookForClashes)
	defer cancel()
	for i, c := range page {
		if c.Source == directory {
			page[i].Unserved = a.notStored(ctx, names[c.Name])
		}
	}
}

func (a *admin) dirHas(n keysource.Name) bool {
	return a.cfg.Dir != nil && (a.cfg.Dir.Has(n) || n.Wildcard() != "" && a.cfg.Dir.Has(n.Wildcard()))
}

// notStored returns those of names that are certainly not in the store, nor their wildcard.
func (a *admin) notStored(ctx context.Context, names []keysource.Name) (out []string) {
	absent := func(n keysource.Name) bool {
		_, err := a.cfg.Catalog.Certificate(ctx, n)
		return errors.Is(err, keysource.ErrNotExist)
	}
	for _, n := range names {
		if absent(n) && (n.Wildcard() == "" || absent(n.Wildcard())) {
			out = append(out, string(n))
		}
	}
	return out
}
