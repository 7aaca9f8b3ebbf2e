package daemon

import (
	"context"
	"iter"

	"github.com/lockstep-tls/lockstep/cmd/internal/loss"
	"github.com/lockstep-tls/lockstep/keysource"
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
