package custody

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
)

var canaryKey = store.Seal.Key("canary")

// canaryText is the plain text of the canary.
const canaryText = "lockstep: this store opens with this key"

var (
	// ErrWrongKey means that what is stored was sealed with another key.
	ErrWrongKey = errors.New("the wrong sealing key")
	// ErrBehind means that the other replicas seal with a key that is only staged in this one's
	// keyset. The source of the keyset cannot be changed from here.
	ErrBehind = errors.New("the keyset is behind the store")
	// ErrCanary means that the key is right, and the canary was changed or comes from elsewhere.
	ErrCanary = errors.New("the canary was changed")
)

// samples is how many records are tried if the canary shows nothing. One may be damaged, not all.
const samples = 16

// Enter is called before anything is written. A replica that was away while the key was changed
// must not seal with a key that the others have dropped. Enter promotes the staged key with which
// the canary is sealed, or fails with [ErrBehind]. It proves the key as [Prove] does, with the
// same errors. It removes the note that every record is sealed with another key than this
// replica's.
func Enter(ctx context.Context, sealed, raw store.Store, s *seal.Sealer) error {
	if err := catchUp(ctx, raw, s); err != nil {
		return err
	}
	err := Prove(ctx, sealed, raw, s)
	if err == nil || errors.Is(err, ErrCanary) {
		err = errors.Join(err, dropForeignNote(ctx, sealed, raw, s))
	}
	return err
}

// catchUp promotes the staged key with which the canary is sealed.
func catchUp(ctx context.Context, raw store.Store, s *seal.Sealer) error {
	val, _, err := raw.Get(ctx, canaryKey)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	id, staged := s.Staged(val)
	if !staged {
		return nil
	}
	if _, err := s.Open(val, []byte(canaryKey)); err != nil {
		return nil // it only carries that ID; Prove says what is wrong
	}
	behind := s.State().Primary
	if _, err = s.Promote(ctx, id); errors.Is(err, seal.ErrReadOnly) {
		return fmt.Errorf("%w: the other replicas seal with the key %s, which the keyset of %s only opens with, "+
			"and may have dropped %s, with which it would seal. "+
			"Put the keyset that the others have in its place, and start again. Nothing was changed", ErrBehind, id,
			s.Source(), behind)
	}
	return err
}

// Prove opens the canary. If a store has none it writes one: to a new store, or to one of an
// earlier version whose records open. If the store was written with another key, the error wraps
// [ErrWrongKey], and nothing is written. After an error that wraps [ErrCanary] the store can be
// used.
func Prove(ctx context.Context, sealed, raw store.Store, s *seal.Sealer) error {
	for {
		missing, err := look(ctx, sealed, raw, s)
		if !missing || err != nil {
			return err
		}
		if _, err = sealed.Swap(ctx, canaryKey, 0, []byte(canaryText)); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Look does what Prove does, and writes nothing.
func Look(ctx context.Context, sealed, raw store.Store, s *seal.Sealer) error {
	_, err := look(ctx, sealed, raw, s)
	return err
}

// look reports whether there is no canary, where the key is right as far as can be seen.
func look(ctx context.Context, sealed, raw store.Store, s *seal.Sealer) (missing bool, err error) {
	val, _, err := sealed.Get(ctx, canaryKey)
	switch {
	case err == nil && string(val) == canaryText:
		return false, nil
	case err == nil:
		return false, fmt.Errorf("%w: %s says something else", ErrCanary, canaryKey)
	case errors.Is(err, store.ErrSealed):
		return false, damaged(ctx, sealed, raw, s)
	case !errors.Is(err, store.ErrNotExist):
		return false, err
	}
	return true, open(ctx, sealed, s)
}

// damaged distinguishes a wrong key from a canary that somebody changed.
func damaged(ctx context.Context, sealed, raw store.Store, s *seal.Sealer) error {
	val, _, err := raw.Get(ctx, canaryKey)
	if err != nil {
		return err
	}
	if !s.Knows(val) {
		return wrong(s, canaryKey)
	}
	if err := open(ctx, sealed, s); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s names a key of %s and does not open with it; other records do", ErrCanary, canaryKey,
		s.Source())
}

// open opens the first record that can be opened. It fails if there are records and none opens.
func open(ctx context.Context, sealed store.Store, s *seal.Sealer) error {
	first, tried := "", 0
	for key, err := range sealed.Keys(ctx, "") {
		if err != nil {
			return err
		}
		if key == canaryKey {
			continue
		}
		switch _, _, err := sealed.Get(ctx, key); {
		case err == nil:
			return nil
		case errors.Is(err, store.ErrSealed):
			if first == "" {
				first = key
			}
			if tried++; tried == samples {
				return wrong(s, first)
			}
		case !errors.Is(err, store.ErrNotExist):
			return err
		}
	}
	if first != "" {
		return wrong(s, first)
	}
	return nil
}

func wrong(s *seal.Sealer, key string) error {
	return fmt.Errorf("%w: the record %s does not open with the keyset of %s (its primary key is %s): it was "+
		"sealed with another one. "+
		"Put that keyset in its place (--kek), or name the store that belongs to this one (--store, --data-dir). "+
		"Nothing was changed",
		ErrWrongKey, key, s.Source(), s.State().Primary)
}
