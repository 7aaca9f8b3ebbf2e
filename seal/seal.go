// Package seal encrypts values before they leave the process: AES-256-GCM, under a Tink keyset that a [Keys] keeps: a file that only
// its owner may read, a systemd credential, an environment variable, or a KMS.
//
// A keyset is Tink's JSON form of a cleartext keyset, so that tinkey works on it too. Its order has a meaning: the primary key seals, every
// enabled key opens; a key after the primary is staged, to seal once every replica has it; one before it is old. Whoever has the keyset can
// open whatever was sealed with it; whoever loses it, nothing. No error, log line or message holds key material.
package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sealer seals and opens. It is safe for concurrent use, and made by [Load], [LoadOrCreate] or [Create].
type Sealer struct {
	keys Keys
	now  atomic.Pointer[opened]

	turn  sync.Mutex // one look at the source, or change of it, at a time
	asked time.Time  // when a value of an unknown key last had the source read; with turn
}

// ErrOpen: the bytes were not sealed with a key of this keyset, or not with that associated data, or were changed since.
var ErrOpen = errors.New("seal: wrong key, wrong associated data, or changed bytes")

const (
	lookWithin = 5 * time.Second // a source that hangs is a source that is down
	lookAgain  = time.Second     // values of unknown keys have the source read no more often than this
)

// Load reads the keyset of a source. If there is none, the error wraps [fs.ErrNotExist].
func Load(ctx context.Context, k Keys) (*Sealer, error) {
	s := &Sealer{keys: k}
	_, err := s.Reload(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// LoadOrCreate is Load, or makes a keyset where there is none yet. If several processes do so at once, all get the same.
func LoadOrCreate(ctx context.Context, k Keys) (*Sealer, error) {
	s, err := Load(ctx, k)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if s, err = create(ctx, k); errors.Is(err, fs.ErrExist) {
		return Load(ctx, k)
	}
	return s, err
}

// Create makes a keyset in a new file (mode 0600, whole or not at all, synced). A file that is there already is never
// overwritten: the error then wraps [fs.ErrExist].
func Create(path string) (*Sealer, error) { return create(context.Background(), File(path)) }

func create(ctx context.Context, k Keys) (*Sealer, error) {
	b, err := generate()
	if err != nil {
		return nil, fmt.Errorf("seal: making a key: %w", err)
	}
	if err := k.Save(ctx, nil, b); err != nil {
		return nil, fmt.Errorf("seal: %s: %w", k, err)
	}
	o, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("seal: making a key: %w", err)
	}
	s := &Sealer{keys: k}
	s.now.Store(o)
	return s, nil
}

// Reload reads the source again and reports whether it holds another keyset than before. After an error the last good one stays.
func (s *Sealer) Reload(ctx context.Context) (changed bool, err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.reload(ctx)
}

func (s *Sealer) reload(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	o, err := s.read(ctx)
	if err != nil {
		return false, err
	}
	if have := s.now.Load(); have != nil && string(have.raw) == string(o.raw) {
		return false, nil
	}
	s.now.Store(o)
	return true, nil
}

// read returns what the source holds.
func (s *Sealer) read(ctx context.Context) (*opened, error) {
	b, err := s.keys.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("seal: %s: %w", s.keys, err)
	}
	o, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("seal: %s: %w; put it back from a backup: what was sealed with it opens with nothing else", s.keys, err)
	}
	return o, nil
}

// Seal encrypts plain with the primary key, and binds it to ad, which must be given again to Open. The result is about 33 bytes longer, and
// another one each time.
func (s *Sealer) Seal(plain, ad []byte) ([]byte, error) { return s.now.Load().all.Encrypt(plain, ad) }

// Open undoes Seal. A value that names a key which is not in the keyset has the source read again first, at most once a second: another replica may
// have been given a new key a moment ago. The error is [ErrOpen].
func (s *Sealer) Open(sealed, ad []byte) ([]byte, error) {
	o := s.now.Load()
	plain, err := o.all.Decrypt(sealed, ad)
	if err != nil && !o.knows(sealed) && s.renewed(o) {
		plain, err = s.now.Load().all.Decrypt(sealed, ad)
	}
	return opens(plain, err)
}

func opens(plain []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, ErrOpen
	}
	if plain == nil {
		plain = []byte{}
	}
	return plain, nil
}

// renewed reads the source again, and reports whether there is another keyset than before by now.
func (s *Sealer) renewed(before *opened) bool {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.now.Load() != before {
		return true
	}
	if time.Since(s.asked) < lookAgain {
		return false
	}
	s.asked = time.Now()
	changed, err := s.reload(context.Background())
	return err == nil && changed // the error is for those who reload on purpose
}

// Current reports whether a value was sealed with the primary key, from the ID that it carries; it proves nothing, see Prove.
func (s *Sealer) Current(sealed []byte) bool {
	id, ok := sealedBy(sealed)
	return ok && id == s.now.Load().state.Primary
}

// Staged returns the staged key that sealed a value, from the ID that it carries; false: it was another one.
func (s *Sealer) Staged(sealed []byte) (KeyID, bool) {
	id, ok := sealedBy(sealed)
	return id, ok && slices.Contains(s.now.Load().state.Staged, id)
}

// Knows reports whether a value carries the ID of a key of the keyset: if it does not open, then it was changed.
func (s *Sealer) Knows(sealed []byte) bool { return s.now.Load().knows(sealed) }

// Prove opens a value with the primary key alone, as it would be once the others are gone. The error is [ErrOpen].
func (s *Sealer) Prove(sealed, ad []byte) error {
	_, err := opens(s.now.Load().primary.Decrypt(sealed, ad))
	return err
}

// State names the keys.
func (s *Sealer) State() State { return s.now.Load().state }

// Source names where the keyset is kept.
func (s *Sealer) Source() string { return s.keys.String() }

// Format keeps the keys out of every message, whatever the verb.
func (s *Sealer) Format(f fmt.State, _ rune) { fmt.Fprint(f, "sealing keyset") }

// LogValue keeps the keys out of every log.
func (s *Sealer) LogValue() slog.Value { return slog.StringValue("sealing keyset") }
