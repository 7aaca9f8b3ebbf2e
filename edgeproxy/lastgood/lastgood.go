// Package lastgood keeps in sealed files what the control plane gave an edge. So the edge can
// start while there is no control plane, and sessions of its clients resume.
//
// Its rules:
//
//   - A file is written whole or not at all, and is bound to its name and format.
//   - A key that has left its ring is spent: no copy brings it back.
//   - A file that cannot be used is an error that names it, and quotes nothing of it.
//
// It does not decide how old a copy may be: its user does.
package lastgood

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/seal"
)

// ErrBad means a file that cannot be used. The text names it, says why, and quotes nothing of it.
var ErrBad = errors.New("last-good copy")

const (
	ringsFile = "last-good-rings"
	certsFile = "last-good-certificates"
	spentFile = "spent-keys"
	format    = 1
)

// Rings are the rings of an edge's scopes.
type Rings struct {
	At    time.Time // until when they were known to be current
	Rings map[string]keysource.Ring
}

// Keeper reads and writes the files of one directory. It is safe for concurrent use.
type Keeper struct {
	dir  string
	seal *seal.Sealer

	mu      sync.Mutex
	spent   spent
	unsaved bool // spent has changed since it was written
	last    map[string]keysource.Ring
}

// Open returns a Keeper, and reads which keys are spent. The error wraps ErrBad if that cannot be
// read.
func Open(dir string, s *seal.Sealer) (*Keeper, error) {
	k := &Keeper{dir: dir, seal: s, last: make(map[string]keysource.Ring)}
	return k, k.read(spentFile, &k.spent)
}

// Rings reads the copy of the rings. A missing copy is empty. A ring with a spent key is left out,
// and is named by the error, which wraps ErrBad.
func (k *Keeper) Rings() (Rings, error) {
	var file struct {
		At    time.Time
		Rings map[string]ringRecord
	}
	out := Rings{Rings: make(map[string]keysource.Ring)}
	if err := k.read(ringsFile, &file); err != nil {
		return out, err
	}
	out.At = file.At
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for scope, rec := range file.Rings {
		ring := keysource.Ring{Generation: rec.Generation, Keys: rec.Keys()}
		if err := errors.Join(ring.Check(), k.spent.check(scope, ring)); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: the ring of scope %s: %w", ErrBad, k.path(ringsFile), scope, err))
			continue
		}
		out.Rings[scope], k.last[scope] = ring, ring
	}
	return out, errors.Join(errs...)
}

// Spend records durably that the ring of scope is now another one. Keys that left it since the
// last ring that was read or written here are spent from now on. They were retired or burnt, and
// never come back. The copy does not change.
func (k *Keeper) Spend(scope string, now keysource.Ring) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.spend(map[string]keysource.Ring{scope: now})
}

// spend does that for several scopes. The caller holds mu.
func (k *Keeper) spend(now map[string]keysource.Ring) error {
	for scope, ring := range now {
		if k.spent.learn(scope, k.last[scope], ring) {
			k.unsaved = true
		}
	}
	if !k.unsaved {
		return nil
	}
	if err := k.write(spentFile, k.spent); err != nil {
		return err
	}
	k.unsaved = false
	return nil
}

// SaveRings writes the copy durably, and does what Spend does.
func (k *Keeper) SaveRings(r Rings) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	// This comes before the copy. A copy without a key that is not known to be spent would be the
	// only trace of it.
	if err := k.spend(r.Rings); err != nil {
		return err
	}
	file := struct {
		At    time.Time
		Rings map[string]ringRecord
	}{r.At, make(map[string]ringRecord)}
	for scope, ring := range r.Rings {
		file.Rings[scope] = newRecord(ring)
	}
	if err := k.write(ringsFile, file); err != nil {
		return err
	}
	for scope, ring := range r.Rings {
		k.last[scope] = ring
	}
	return nil
}

// Certificates reads the copy of the certificates. A missing copy is empty. The error wraps
// ErrBad.
func (k *Keeper) Certificates() (map[keysource.Name]keysource.PEM, error) {
	var file map[keysource.Name]certRecord
	err := k.read(certsFile, &file)
	out := make(map[keysource.Name]keysource.PEM, len(file))
	for n, rec := range file {
		out[n] = keysource.PEM(rec)
	}
	return out, err
}

// SaveCertificates writes the copy durably.
func (k *Keeper) SaveCertificates(all map[keysource.Name]keysource.Certificate) error {
	file := make(map[keysource.Name]certRecord, len(all))
	for n, c := range all {
		file[n] = certRecord(c.PEM)
	}
	return k.write(certsFile, file)
}

func (k *Keeper) path(name string) string { return filepath.Join(k.dir, name) }

// read opens a file into v. If there is no file, v does not change.
func (k *Keeper) read(name string, v any) error {
	sealed, err := os.ReadFile(k.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	plain, err := k.seal.Open(sealed, associated(name))
	if err != nil {
		return fmt.Errorf("%w: %s: %w: delete it to go on without it", ErrBad, k.path(name), err)
	}
	if err := json.Unmarshal(plain, v); err != nil {
		// The decoder's error may quote it.
		return fmt.Errorf("%w: %s cannot be decoded: delete it to go on without it", ErrBad, k.path(name))
	}
	return nil
}

// write replaces a file, whole or not at all.
func (k *Keeper) write(name string, v any) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %s cannot be encoded", ErrBad, name)
	}
	sealed, err := k.seal.Seal(plain, associated(name))
	clear(plain)
	if err != nil {
		return fmt.Errorf("%w: sealing: %w", ErrBad, err)
	}
	if err := atomicfile.Write(k.path(name), sealed, 0o600); err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	return nil
}

// associated returns associated data that binds a file to its name and format, so that no other
// file can replace it.
func associated(name string) []byte { return fmt.Appendf(nil, "lockstep edge %s v%d", name, format) }

// certRecord is a certificate in a file. It has none of the methods with which a PEM refuses to be
// written as text.
type certRecord keysource.PEM

// ringRecord is a ring in a file. Bytes has its keys, one after the other, since keys refuse to be
// written as text.
type ringRecord struct {
	Generation uint64
	Bytes      []byte
}

func newRecord(r keysource.Ring) ringRecord {
	rec := ringRecord{Generation: r.Generation}
	for _, k := range r.Keys {
		rec.Bytes = append(rec.Bytes, k[:]...)
	}
	return rec
}

// Keys returns the keys. It leaves out what is no whole key.
func (r ringRecord) Keys() (all []keysource.TicketKey) {
	for b := r.Bytes; len(b) >= keysource.TicketKeySize; b = b[keysource.TicketKeySize:] {
		all = append(all, keysource.TicketKey(b[:keysource.TicketKeySize]))
	}
	return all
}
