// Package lastgood keeps what the control plane gave an edge in two sealed files, so that the edge can start, and its clients' sessions resume, while there is no
// control plane.
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

// ErrBad: a file that cannot be used. The text names it, says why, and quotes nothing of it.
var ErrBad = errors.New("last-good copy")

const (
	ringsFile = "last-good-rings"
	certsFile = "last-good-certificates"
	spentFile = "spent-keys"
	format    = 1
)

// Rings are those of an edge's scopes.
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
	unsaved bool // spent is not in its file as it is
	last    map[string]keysource.Ring
}

// Open reads what the directory says of spent keys. The error wraps ErrBad where that cannot be read.
func Open(dir string, s *seal.Sealer) (*Keeper, error) {
	k := &Keeper{dir: dir, seal: s, last: make(map[string]keysource.Ring)}
	return k, k.read(spentFile, &k.spent)
}

// Rings reads the copy. A missing one is empty. A ring that holds a spent key is left out, and stands in the error, which wraps ErrBad.
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

// Spend notes, durably, that the ring of scope is now another one: what has left it since the last one that was read or written here is spent from now on, retired
// or burnt, and never comes back. The copy stays as it is.
func (k *Keeper) Spend(scope string, now keysource.Ring) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.spend(map[string]keysource.Ring{scope: now})
}

// spend is called with mu held.
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

// SaveRings writes the copy, durably, and does what Spend does.
func (k *Keeper) SaveRings(r Rings) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.spend(r.Rings); err != nil { // before the copy: one without a key that is not known as spent would be the only trace of it
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

// Certificates reads the copy. A missing one is empty. The error wraps ErrBad.
func (k *Keeper) Certificates() (map[keysource.Name]keysource.PEM, error) {
	var file map[keysource.Name]certRecord
	err := k.read(certsFile, &file)
	out := make(map[keysource.Name]keysource.PEM, len(file))
	for n, rec := range file {
		out[n] = keysource.PEM(rec)
	}
	return out, err
}

// SaveCertificates writes the copy, durably.
func (k *Keeper) SaveCertificates(all map[keysource.Name]keysource.Certificate) error {
	file := make(map[keysource.Name]certRecord, len(all))
	for n, c := range all {
		file[n] = certRecord(c.PEM)
	}
	return k.write(certsFile, file)
}

func (k *Keeper) path(name string) string { return filepath.Join(k.dir, name) }

// read opens a file into v, which stays as it is where there is none.
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
		return fmt.Errorf("%w: %s cannot be decoded: delete it to go on without it", ErrBad, k.path(name)) // the decoder's words may quote it
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

// associated binds a file to its name and format, so that none stands in for another.
func associated(name string) []byte { return fmt.Appendf(nil, "lockstep edge %s v%d", name, format) }

// certRecord is a certificate in a file. Its PEM refuses to be written as text itself.
type certRecord struct{ Chain, Key []byte }

// ringRecord is a ring in a file: its keys, one after the other. Keys refuse to be written as text themselves.
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

// Keys leaves out what is no whole key.
func (r ringRecord) Keys() (all []keysource.TicketKey) {
	for b := r.Bytes; len(b) >= keysource.TicketKeySize; b = b[keysource.TicketKeySize:] {
		all = append(all, keysource.TicketKey(b[:keysource.TicketKeySize]))
	}
	return all
}
