package custody

import (
	"context"
	"errors"
	"strings"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
)

// doneKey is the key of a note: the sealing key with which every record is sealed, or, after "scan
// ", the one with which somebody is sealing them. A replica that starts with another key removes
// the note before it writes anything ([Enter]). A replica that changes to another key removes it
// when it has changed. So if the note is in the end as it was written first, nobody wrote with
// another key meanwhile.
var doneKey = store.Seal.Key("done")

const scanning = "scan "

// readNote returns the note and its revision. The text is empty if the note cannot be read.
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

// dropForeignNote removes the note if it names another key than this replica's.
func dropForeignNote(ctx context.Context, sealed, raw store.Store, s *seal.Sealer) error {
	return dropNote(ctx, sealed, raw, s,
		func(text string) bool { return strings.TrimPrefix(text, scanning) != s.State().Primary.String() })
}

// dropNote removes the note if says reports true of its text.
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

// noteScan notes that every record is being sealed with id, unless that or more is noted. It
// returns the revision by which noteDone recognises the note.
func (c *Custodian) noteScan(ctx context.Context, id seal.KeyID) (store.Rev, error) {
	for {
		text, rev, err := readNote(ctx, c.cfg.Raw, c.cfg.Sealer)
		if err != nil || strings.TrimPrefix(text, scanning) == id.String() {
			return rev, err
		}
		if rev, err = c.cfg.Store.Swap(ctx, doneKey, rev, []byte(scanning+id.String())); !errors.Is(err,
			store.ErrConflict) {
			return rev, err
		}
	}
}

// noteDone notes that every record is sealed with id. It fails with ErrConflict if somebody
// removed the note since noteScan.
func (c *Custodian) noteDone(ctx context.Context, id seal.KeyID, begun store.Rev) error {
	_, err := c.cfg.Store.Swap(ctx, doneKey, begun, []byte(id.String()))
	if errors.Is(err, store.ErrConflict) {
		// Another replica noted it.
		if text, _, failed := readNote(ctx, c.cfg.Raw, c.cfg.Sealer); failed == nil && text == id.String() {
			return nil
		}
	}
	return err
}

// finish seals every record with the primary key, once nobody seals with another one, and notes
// that.
func (c *Custodian) finish(ctx context.Context, id seal.KeyID) error {
	late, err := c.sealingOtherwise(ctx, id)
	if err != nil {
		return err
	}
	if len(late) > 0 {
		c.setFinished(0, late)
		return nil
	}
	text, _, err := readNote(ctx, c.cfg.Raw, c.cfg.Sealer)
	if err != nil {
		return err
	}
	// Otherwise it was done at an earlier look, before a restart, or by another replica.
	if text != id.String() {
		c.setFinished(0, nil)
		begun, err := c.noteScan(ctx, id)
		if err != nil {
			return err
		}
		if err := c.reseal(ctx); err != nil {
			return err
		}
		// It has changed meanwhile.
		if late, err = c.sealingOtherwise(ctx, id); err != nil || len(late) > 0 || c.cfg.Sealer.State().Primary != id {
			c.signal()
			return err
		}
		if err := c.noteDone(ctx, id, begun); errors.Is(err, store.ErrConflict) {
			c.signal()
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
