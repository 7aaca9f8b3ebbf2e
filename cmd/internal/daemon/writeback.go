package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// writeBack puts the certificates that are being sent into a store that has lost them: those that came from it, under the names under which they were there.
func (d *Daemon) writeBack(ctx context.Context) error {
	n := 0
	var errs []error
	for _, h := range d.table.Sent() {
		if d.sources[h.From] != keysource.Source(d.certs) {
			continue
		}
		if err := ctx.Err(); err != nil { // the next try goes on with those that are still missing
			errs = append(errs, err)
			break
		}
		held, err := keysource.ParseCertificate(h.Chain, h.Key, time.Time{})
		if err != nil {
			continue // it was checked when it was put
		}
		have, err := d.certs.Certificate(ctx, h.Name)
		if err == nil && !have.NotBefore.Before(held.NotBefore) {
			continue
		}
		if _, err = d.certs.Put(ctx, h.Name, h.Chain, h.Key); errors.Is(err, keysource.ErrBadCertificate) {
			d.log.Error("a certificate that the store has lost is not good any more and is not written back; it goes on being sent: put another", "name", h.Name, "err", err)
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	if d.listeners != nil {
		if err := d.listeners.eager.WriteBack(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	for _, scope := range d.rolls.Scopes() {
		d.rolls.Poke(scope)
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d certificates or pins are still missing, the first: %w", len(errs), errs[0])
	}
	d.log.Info("what the store had lost was written back", "certificates", n)
	return nil
}
