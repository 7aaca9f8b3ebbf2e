package edge

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/edgeproxy/lastgood"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/seal"
)

const (
	// answerWithin is how long the control plane has to give rings before those of the copy are
	// used.
	answerWithin = 2 * time.Second
	// stampEvery is how often the copy notes that its rings are still current.
	stampEvery = 30 * time.Second
	// certsEvery bounds how often the certificates are written, all of them.
	certsEvery = 10 * time.Second
	// spendWithin is how long a disk may delay the acceptance of a ring. Rotations wait for this
	// edge.
	spendWithin = time.Second
)

// openCopy makes the data directory usable. The edge starts even if the copy is damaged.
func (e *Edge) openCopy() error {
	if e.cfg.DataDir == "" {
		return nil
	}
	if err := os.MkdirAll(e.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	keys, err := e.cfg.keys()
	if err != nil {
		return fmt.Errorf("kek: %w", err)
	}
	s, err := seal.LoadOrCreate(context.Background(), keys)
	if err != nil {
		return fmt.Errorf("kek: %w", err)
	}
	if e.copy, err = lastgood.Open(e.cfg.DataDir, s); err != nil {
		e.log.Error("there will be no last-good copy: which keys were burnt is not known", "error", err)
		e.copy = nil
	}
	return nil
}

// restore reads the copy, and serves its certificates from now on. The control plane is asked about
// them first, and replaces or removes what has changed.
func (e *Edge) restore() {
	if e.copy == nil {
		return
	}
	var err error
	if e.old, err = e.copy.Rings(); err != nil {
		e.log.Error("refused", "error", err)
	}
	certs, err := e.copy.Certificates()
	if err != nil {
		e.log.Error("refused", "error", err)
	}
	for n, c := range certs {
		if err := e.secrets.Restore(n, c); err != nil {
			e.log.Error("refused a certificate of the last-good copy", "name", string(n), "error", err)
		}
	}
	if len(certs) > 0 {
		e.log.Info("read the last-good copy", "certificates", len(certs))
	}
}

// keep writes the copy as things change, until ctx ends. If the control plane does not answer at
// the start, keep uses the rings of the copy.
func (e *Edge) keep(ctx context.Context) error {
	if e.copy == nil {
		return nil
	}
	late, stamp, certs := time.NewTimer(answerWithin), time.NewTicker(stampEvery), time.NewTicker(certsEvery)
	defer late.Stop()
	defer stamp.Stop()
	defer certs.Stop()
	var saved map[string]keysource.Ring
	dirty := false
	for {
		select {
		case <-e.secrets.Changed():
			dirty = true
			if rings := e.secrets.Rings(); !maps.EqualFunc(rings, saved, same) && e.secrets.Current() {
				if e.saveRings(rings) {
					saved = rings
				}
			}
		case <-late.C:
			e.resume()
		case <-stamp.C:
			if rings := e.secrets.Rings(); len(rings) > 0 && e.secrets.Current() {
				e.saveRings(rings)
			}
		case <-certs.C:
			if dirty {
				dirty = !e.saveCertificates()
			}
		case <-ctx.Done():
			if dirty {
				e.saveCertificates()
			}
			return nil
		}
	}
}

// resume uses the rings of the copy for the scopes that have none yet.
func (e *Edge) resume() {
	age := time.Since(e.old.At)
	for scope, ring := range e.old.Rings {
		if _, has := e.secrets.Rings()[scope]; has {
			continue
		}
		if age > e.cfg.TicketLifetime || age < -time.Minute {
			e.log.Warn("the last-good ticket keys are too old: no tickets until the control plane answers", "scope",
				scope, "version", ring.Version(), "age", age.String())
			continue
		}
		if err := e.secrets.Resume(scope, ring); err != nil {
			e.log.Error("refused a ring of the last-good copy", "scope", scope, "error", err)
			continue
		}
		e.log.Warn("the control plane does not answer: the last-good ticket keys are used", "scope", scope, "version",
			ring.Version(), "age", age.String())
	}
}

// spend notes in the data directory what has left a ring. It waits for a hanging disk no longer
// than spendWithin.
func (e *Edge) spend(scope string, r keysource.Ring) {
	if e.copy == nil {
		return
	}
	done := make(chan error, 1)
	go func() { done <- e.copy.Spend(scope, r) }()
	err := fmt.Errorf("%s does not answer within %s", e.cfg.DataDir, spendWithin)
	select {
	case err = <-done:
	case <-time.After(spendWithin):
	}
	if err != nil {
		e.log.Error(
			"the ticket keys that are gone are not written down: until they are, a restart without the control "+
				"plane might use them again", "scope", scope, "error", err)
	}
}

func (e *Edge) saveRings(rings map[string]keysource.Ring) bool {
	err := e.copy.SaveRings(lastgood.Rings{At: time.Now(), Rings: rings})
	if err != nil {
		e.log.Error("the last-good copy is not written", "error", err)
	}
	return err == nil
}

func (e *Edge) saveCertificates() bool {
	err := e.copy.SaveCertificates(e.secrets.Certificates())
	if err != nil {
		e.log.Error("the last-good copy is not written", "error", err)
	}
	return err == nil
}

func same(a, b keysource.Ring) bool {
	return a.Generation == b.Generation && slices.Equal(a.Keys, b.Keys)
}
