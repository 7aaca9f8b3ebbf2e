package custody

import (
	"context"
	"errors"
	"strings"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
)

// doneKey: the key with which every record is sealed; behind "scan ", the one with which somebody is sealing them. A replica that starts with another key takes
// the note away before it writes anything ([Enter]), and one that changes to another when it has done so: so who wrote the first and finds it
// in the end as it was knows that nobody wrote with another key meanwhile.
var doneKey = store.Seal.Key("done")

const scanning = "scan "

// readNote reads what stands there, and its revision. One that cannot be read says nothing.
func readNote(ctx context.Context, raw store.Store, s *seal.Sealer) (text string, rev store.Rev, err error) {
	val, rev, err := raw.Get(ctx, doneKey)
	if errors.Is(err, store.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	if plain, err := s.Open(val, []byte(doneKey)); err == nil {
		text = string(plain)
	}
	return text, rev, nil
}

// disown takes the note away if it is of another key than this replica's.
func disown(ctx context.Context, sealed, raw store.Store, s *seal.Sealer) error {
	return dropNote(ctx, sealed, raw, s, func(text string) bool { return strings.TrimPrefix(text, scanning) != s.State().Primary.String() })
}

// dropNote takes the note away if it says what is asked for.
func dropNote(ctx context.Context, sealed, raw store.Store, s *seal.Sealer, says func(text string) bool) error {
	for {
		text, rev, err := readNote(ctx, raw, s)
		if err != nil || rev == 0 || !says(text) {
			return err
		}
		if _, err = sealed.Swap(ctx, doneKey, rev, nil); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// begin notes that every record is being sealed with id, unless that or more is noted, and returns the revision by which end knows it.
func (c *Custodian) begin(ctx context.Context, id seal.KeyID) (store.Rev, error) {
	for {
		text, rev, err := readNote(ctx, c.Raw, c.Sealer)
		if err != nil || strings.TrimPrefix(text, scanning) == id.String() {
			return rev, err
		}
		if rev, err = c.Store.Swap(ctx, doneKey, rev, []byte(scanning+id.String())); !errors.Is(err, store.ErrConflict) {
			return rev, err
		}
	}
}

// end notes that every record is sealed with id. It fails with ErrConflict if somebody took the note away since begin.
func (c *Custodian) end(ctx context.Context, id seal.KeyID, begun store.Rev) error {
	_, err := c.Store.Swap(ctx, doneKey, begun, []byte(id.String()))
	if errors.Is(err, store.ErrConflict) {
		if text, _, failed := readNote(ctx, c.Raw, c.Sealer); failed == nil && text == id.String() { // another one ended it
			return nil
		}
	}
	return err
}

// finish seals every record with the primary key, once nobody seals with another one, and notes it.
func (c *Custodian) finish(ctx context.Context, id seal.KeyID) error {
	late, err := c.otherwise(ctx, id)
	if err != nil {
		return err
	}
	if len(late) > 0 {
		c.setFinished(0, late)
		return nil
	}
	text, _, err := readNote(ctx, c.Raw, c.Sealer)
	if err != nil {
		return err
	}
	if text != id.String() { // else it was done at an earlier look, before a restart, or by another replica
		c.setFinished(0, nil)
		begun, err := c.begin(ctx, id)
		if err != nil {
			return err
		}
		if err := c.reseal(ctx); err != nil {
			return err
		}
		if late, err = c.otherwise(ctx, id); err != nil || len(late) > 0 || c.Sealer.State().Primary != id { // it was changed meanwhile
			c.poke()
			return err
		}
		if err := c.end(ctx, id, begun); errors.Is(err, store.ErrConflict) {
			c.poke()
			return nil
		} else if err != nil {
			return err
		}
	}
	c.setFinished(id, nil)
	return nil
}

func (c *Custodian) setFinished(id seal.KeyID, waits []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished, c.waits = id, waits
}
