package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// tries bounds how often a change of the keyset starts again because somebody else changed it.
const tries = 10

// ErrRefused wraps the refusal of a change of the keyset: the text says why.
var ErrRefused = errors.New("refused")

// Stage adds a fresh key that opens and does not seal yet, unless there is one. It is saved when this returns. Errors may wrap
// [ErrReadOnly].
func (s *Sealer) Stage(ctx context.Context) (State, error) {
	return s.change(ctx, func(m *keyset.Manager, st State) error {
		if len(st.Staged) > 0 {
			return nil
		}
		_, err := m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
}

// Promote has the staged key id seal from now on; the one that did is old then. One that seals already stays.
func (s *Sealer) Promote(ctx context.Context, id KeyID) (State, error) {
	return s.change(ctx, func(m *keyset.Manager, st State) error {
		if st.Primary == id {
			return nil
		}
		return m.SetPrimary(uint32(id))
	})
}

// Retire drops the old keys, if primary is still the one that seals: the caller has made sure that it opens everything.
func (s *Sealer) Retire(ctx context.Context, primary KeyID) (State, error) {
	return s.change(ctx, func(m *keyset.Manager, st State) error {
		if st.Primary != primary {
			return fmt.Errorf("%w: the key %s seals by now, and not %s: nothing was dropped", ErrRefused, st.Primary, primary)
		}
		for _, id := range st.Old {
			if err := m.Delete(uint32(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// change makes a changed keyset out of what the source holds, saves it and goes by it.
func (s *Sealer) change(ctx context.Context, f func(*keyset.Manager, State) error) (State, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	for range tries {
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
		s.now.Store(next)
		return next.state, nil
	}
	return State{}, fmt.Errorf("seal: %s: %w %d times: try again when the others have come to rest", s.keys, ErrConflict, tries)
}

func (o *opened) changed(f func(*keyset.Manager, State) error) (*opened, error) {
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
