package loss

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/sds"
)

// Refill writes back what a store had.
type Refill struct {
	// Sent returns the certificates that are being sent and came from the store.
	Sent    func() []sds.SentCertificate
	Catalog *catalog.Catalog
	// Also writes back the rest. It may be called several times.
	Also []func(context.Context) error
	Log  *slog.Logger
}

// Run puts the certificates into the store that are missing there, under the names under which
// they were there, and calls Also. After an error it is to be called again, and goes on with what
// is still missing.
func (r Refill) Run(ctx context.Context) error {
	n := 0
	var errs []error
	for _, h := range r.Sent() {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		put, err := r.put(ctx, h)
		if err != nil {
			errs = append(errs, err)
		}
		if put {
			n++
		}
	}
	for _, also := range r.Also {
		if err := also(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d certificates or pins are still missing, the first: %w", len(errs), errs[0])
	}
	r.Log.Info("what the store had lost was written back", "certificates", n)
	return nil
}

// put puts a certificate unless the store has a newer one.
func (r Refill) put(ctx context.Context, h sds.SentCertificate) (put bool, err error) {
	held, err := keysource.ParseCertificate(h.PEM, time.Time{})
	if err != nil {
		return false, nil // it was checked when it was put
	}
	have, err := r.Catalog.Certificate(ctx, h.Name)
	if err == nil && !have.NotBefore.Before(held.NotBefore) {
		return false, nil
	}
	_, err = r.Catalog.Put(ctx, h.Name, h.PEM)
	if errors.Is(err, keysource.ErrBadCertificate) {
		r.Log.Error("a certificate that the store has lost is not good any more and is not written back; "+
			"it goes on being sent: put another", "name", h.Name, "err", err)
		return false, nil
	}
	return err == nil, err
}
