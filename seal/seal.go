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

// Sealer seals and opens. It is safe for concurrent use. [Load], [LoadOrCreate] and [Create] make
// one.
type Sealer struct {
	keys   Keys
	keyset atomic.Pointer[openKeyset]

	turn sync.Mutex // one read or change of the source at a time
	// reloadedAt is when a value of an unknown key made the source be read last. turn guards it.
	reloadedAt time.Time
}

// ErrOpen means that bytes do not open. They were sealed with another key or other associated
// data, or were changed since.
var ErrOpen = errors.New("seal: wrong key, wrong associated data, or changed bytes")

const (
	// reloadWithin is how long a source may take. A source that hangs counts as down.
	reloadWithin = 5 * time.Second
	// reloadEvery is how often values of unknown keys make the source be read at most.
	reloadEvery = time.Second
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

// LoadOrCreate does what Load does, or makes a keyset if there is none yet. If several processes
// do so at the same time, all get the same one.
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

// Create makes a keyset in a new file (mode 0600, whole or not at all, synced). It never
// overwrites a file: the error wraps [fs.ErrExist] then.
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
	s.keyset.Store(o)
	return s, nil
}

// Reload reads the source again, and reports whether it has another keyset than before. After an
// error the last good keyset stays.
func (s *Sealer) Reload(ctx context.Context) (changed bool, err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.reload(ctx)
}

func (s *Sealer) reload(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reloadWithin)
	defer cancel()
	o, err := s.read(ctx)
	if err != nil {
		return false, err
	}
	if have := s.keyset.Load(); have != nil && string(have.raw) == string(o.raw) {
		return false, nil
	}
	s.keyset.Store(o)
	return true, nil
}

// read returns what the source has.
func (s *Sealer) read(ctx context.Context) (*openKeyset, error) {
	b, err := s.keys.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("seal: %s: %w", s.keys, err)
	}
	o, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("seal: %s: %w; put it back from a backup: what was sealed with it opens with "+
			"nothing else", s.keys, err)
	}
	return o, nil
}

// Seal encrypts plain with the primary key, and binds it to ad, which must be given again to Open.
// The result is about 33 bytes longer, and differs each time.
func (s *Sealer) Seal(plain, ad []byte) ([]byte, error) {
	return s.keyset.Load().all.Encrypt(plain, ad)
}

// Open is the inverse of Seal. If a value names a key that is not in the keyset, the source is
// read again first, at most once a second. Another replica may just have been given a new key. The
// error is [ErrOpen].
func (s *Sealer) Open(sealed, ad []byte) ([]byte, error) {
	o := s.keyset.Load()
	plain, err := o.all.Decrypt(sealed, ad)
	if err != nil && !o.knows(sealed) && s.reloadUnknown(o) {
		plain, err = s.keyset.Load().all.Decrypt(sealed, ad)
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

// reloadUnknown reads the source again, and reports whether there is another keyset than before.
func (s *Sealer) reloadUnknown(before *openKeyset) bool {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.keyset.Load() != before {
		return true
	}
	if time.Since(s.reloadedAt) < reloadEvery {
		return false
	}
	s.reloadedAt = time.Now()
	changed, err := s.reload(context.Background())
	return err == nil && changed // the error is for callers of Reload
}

// Current reports whether a value was sealed with the primary key, by the ID that it carries. That
// proves nothing: see Prove.
func (s *Sealer) Current(sealed []byte) bool {
	id, ok := sealedBy(sealed)
	return ok && id == s.keyset.Load().state.Primary
}

// Staged returns the staged key that sealed a value, by the ID that it carries. It returns false
// if it was another key.
func (s *Sealer) Staged(sealed []byte) (KeyID, bool) {
	id, ok := sealedBy(sealed)
	return id, ok && slices.Contains(s.keyset.Load().state.Staged, id)
}

// Knows reports whether a value carries the ID of a key of the keyset. If such a value does not
// open, it was changed.
func (s *Sealer) Knows(sealed []byte) bool { return s.keyset.Load().knows(sealed) }

// Prove opens a value with the primary key alone, as if the other keys were gone. The error is
// [ErrOpen].
func (s *Sealer) Prove(sealed, ad []byte) error {
	_, err := opens(s.keyset.Load().primary.Decrypt(sealed, ad))
	return err
}

// State returns the keys by what they do.
func (s *Sealer) State() State { return s.keyset.Load().state }

// Source names the source of the keyset.
func (s *Sealer) Source() string { return s.keys.String() }

// Format keeps the keys out of every message, whatever the verb.
func (s *Sealer) Format(f fmt.State, _ rune) { fmt.Fprint(f, "sealing keyset") }

// LogValue keeps the keys out of every log.
func (s *Sealer) LogValue() slog.Value { return slog.StringValue("sealing keyset") }
