package daemon

import (
	"context"
	"iter"
	"slices"

	"github.com/lockstep-tls/lockstep/cmd/internal/certlog"
	"github.com/lockstep-tls/lockstep/cmd/internal/loss"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
)

// changed says that certificates came, changed or went.
func (d *Daemon) changed(names []keysource.Name) {
	d.table.Refresh(names)
	d.listeners.Look(names)
}

// certNames yields the name of every certificate, once all sources were read.
func (d *Daemon) certNames(ctx context.Context) iter.Seq2[keysource.Name, error] {
	return func(yield func(keysource.Name, error) bool) {
		waits := []<-chan struct{}{d.certs.Ready()}
		if d.dir != nil {
			waits = append(waits, d.dir.Ready())
		}
		for _, ready := range waits {
			select {
			case <-ready:
			case <-ctx.Done():
				yield("", ctx.Err())
				return
			}
		}
		there := map[keysource.Name]bool{}
		if d.dir != nil {
			for _, e := range d.dir.List() {
				if there[e.Name] = true; e.Name != "" && !yield(e.Name, nil) {
					return
				}
			}
		}
		for n, err := range d.certs.Names(ctx) {
			if err != nil {
				yield("", err)
				return
			}
			if !there[n] && !yield(n, nil) {
				return
			}
		}
	}
}

// writeBack puts what this process serves into a store that has lost it.
func (d *Daemon) writeBack(ctx context.Context) error {
	return loss.Refill{
		Sent: func() (ours []sds.SentCertificate) {
			for _, h := range d.table.Sent() {
				if d.sources[h.From] == keysource.Source(d.certs) {
					ours = append(ours, h)
				}
			}
			return ours
		},
		Catalog: d.certs, Log: d.log,
		Also: []func(context.Context) error{d.listeners.WriteBack, func(context.Context) error {
			for _, scope := range d.rolls.Scopes() {
				d.rolls.Poke(scope)
			}
			return nil
		}},
	}.Run(ctx)
}

// doubt says why a certificate that is missing may be lost. It is nil if the store is nobody
// else's.
func (d *Daemon) doubt() func(context.Context, keysource.Name) error {
	if d.lossy == nil {
		return nil
	}
	return loss.Doubt(d.lossy)
}

// storedLog tells of stored certificates that are near their end or cannot be used. Those that the
// directory has too are not served. Of several replicas the first one by name tells.
func (d *Daemon) storedLog() *certlog.Stored {
	ours := func(name string) bool { return d.dir == nil || !d.dir.Has(keysource.Name(name)) }
	return certlog.NewStored(certlog.StoredConfig{
		File: d.data.File("stored.mark"), Record: d.rec.Record, Log: d.log,
		Ends: func() (out []certlog.Ending, known bool) {
			ends := d.certs.Ends()
			for _, n := range ends.Late {
				if ours(n.Name) {
					out = append(out, certlog.Ending{Name: n.Name, NotBefore: n.NotBefore, NotAfter: n.NotAfter})
				}
			}
			return out, !ends.KnownAt.IsZero()
		},
		Bad: func() map[string]string {
			bad := map[string]string{}
			for _, b := range d.certs.BadEntries() {
				if ours(string(b.Name)) {
					bad[string(b.Name)] = b.Problem
				}
			}
			return bad
		},
		Mine: func() bool {
			return !slices.ContainsFunc(d.rolls.Peers(), func(p fleet.Peer) bool { return p.Replica < d.data.Replica })
		},
	})
}
