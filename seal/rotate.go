package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// maxTries bounds how often a change of the keyset starts again because somebody else changed it.
const maxTries = 10

// ErrRefused wraps the refusal of a change of the keyset. The text says why.
var ErrRefused = errors.New("refused")

// Stage adds a new key that opens and does not seal yet, unless there is one. It is saved when
// Stage returns. Errors may wrap [ErrReadOnly].
func (s *Sealer) Stage(ctx context.Context) (State, error) {
	return s.change(ctx, func(m *keyset.Manager, st State) error {
		if len(st.Staged) > 0 {
			return nil
		}
		_, err := m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
}

// Promote makes the staged key id seal from now on. The key that sealed before is old then. If id
// seals already, nothing changes.
func (s *Sealer) Promote(ctx context.Context, id KeyID) (State, error) {
	return s.change(ctx, func(m *keyset.Manager, st State) error {
		if st.Primary == id {
			return nil
		}
		return m.SetPrimary(uint32(id))
	})
}

// Retire drops the old keys, if primary is still the key that seals. The caller must have made
// sure that primary opens everything.
func (s *Sealer) Retire(ctx context.Context, primary KeyID) (State, error) {
	return s.change(ctx, func(m *keyset.Manager, st State) error {
		if st.Primary != primary {
			return fmt.Errorf("%w: the key %s seals by now, and not %s: nothing was dropped", ErrRefused, st.Primary,
				primary)
		}
		for _, id := range st.Old {
			if err := m.Delete(uint32(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// change makes a changed keyset from what the source has, saves it and uses it.
func (s *Sealer) change(ctx context.Context, f func(*keyset.Manager, State) error) (State, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	for range maxTries {
		o, err := s.read(ctx)
		if err != nil {
			return State{}, err
		}
		next, err := o.changed(f)
		if err != nil {
			return o.state, fmt.Errorf("seal: %s: %w", s.keys, err)
		}
		if string(next.raw) != string(o.raw) {
			if err = s.keys.Save(ctx, o.raw, next.raw); errors.Is(err, ErrConflict) {
				continue
			} else if err != nil {
				return o.state, fmt.Errorf("seal: %s: %w", s.keys, err)
			}
		}
		s.keyset.Store(next)
		return next.state, nil
	}
	return State{}, fmt.Errorf("seal: %s: %w %d times: try again when the others have come to rest", s.keys,
		ErrConflict, maxTries)
}

func (o *openKeyset) changed(f func(*keyset.Manager, State) error) (*openKeyset, error) {
	m := keyset.NewManagerFromHandle(o.handle)
	if err := f(m, o.state); err != nil {
		return nil, err
	}
	handle, err := m.Handle()
	if err != nil {
		return nil, err
	}
	b, err := marshal(handle)
	if err != nil {
		return nil, err
	}
	return parse(b)
}
