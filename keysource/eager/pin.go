package eager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

var prefix = store.EagerHosts.All()

// maxTries bounds how often a write starts again because somebody else wrote the same name.
const maxTries = 10

func key(n keysource.Name) string { return store.EagerHosts.Key(string(n)) }

// pin is the stored form of a pin.
type pin struct {
	At time.Time `json:"at"` // by the store's clock
	By string    `json:"by"`
}

// Pin makes n eager, and records who wanted that. If n is pinned already it stays as it is. After
// an error other than Before's it is not known whether n was pinned, and it is safe to do it
// again.
func (e *Eager) Pin(ctx context.Context, n keysource.Name, by string) error {
	_, _, err := e.cfg.Store.Get(ctx, key(n))
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("pinning %s: %w", n, err)
	}
	now, err := e.cfg.Store.Now(ctx)
	if err != nil {
		return fmt.Errorf("pinning %s: %w", n, err)
	}
	if err := e.cfg.Before(ctx, n, true); err != nil {
		return fmt.Errorf("%s was not pinned: %w", n, err)
	}
	if err := e.write(ctx, n, pin{At: now.UTC(), By: by}); err != nil {
		return err
	}
	e.Wake()
	return nil
}

// write makes a pin, which Hosts includes at once.
func (e *Eager) write(ctx context.Context, n keysource.Name, p pin) error {
	val, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = e.cfg.Store.Swap(ctx, key(n), 0, val)
	if errors.Is(err, store.ErrConflict) { // somebody else has pinned it
		return nil
	}
	if err != nil {
		return fmt.Errorf("pinning %s: the outcome is unknown, do it again: %w", n, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pins[n] = p // if a look that is under way knows better, another look follows
	return nil
}

// Unpin removes the pin of n. The error wraps [keysource.ErrNotExist] if there is none. After any
// other error except Before's it is not known whether the pin was removed, and it is safe to do it
// again.
func (e *Eager) Unpin(ctx context.Context, n keysource.Name) error {
	for try := range maxTries {
		_, rev, err := e.cfg.Store.Get(ctx, key(n))
		switch {
		case errors.Is(err, store.ErrNotExist):
			return fmt.Errorf("a pin of %s %w", n, keysource.ErrNotExist)
		case err != nil:
			return fmt.Errorf("unpinning %s: %w", n, err)
		}
		if try == 0 {
			if err := e.cfg.Before(ctx, n, false); err != nil {
				return fmt.Errorf("%s was not unpinned: %w", n, err)
			}
		}
		_, err = e.cfg.Store.Swap(ctx, key(n), rev, nil)
		if err == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			delete(e.pins, n)
			e.Wake()
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("unpinning %s: the outcome is unknown, do it again: %w", n, err)
		}
	}
	return fmt.Errorf("unpinning %s: %w %d times; do it again when they have come to rest", n, store.ErrConflict,
		maxTries)
}

// WriteBack puts the pins that are known here into a store that has lost them.
func (e *Eager) WriteBack(ctx context.Context) error {
	e.mu.Lock()
	pins := maps.Clone(e.pins)
	e.mu.Unlock()
	for n, p := range pins {
		if err := e.write(ctx, n, p); err != nil {
			return err
		}
	}
	return nil
}

// readPins takes over the pins that have changed.
func (e *Eager) readPins(ctx context.Context) error {
	keys, head, err := e.cfg.Store.Changed(ctx, prefix, e.since)
	if err != nil {
		return err
	}
	read := map[keysource.Name]*pin{}
	for _, k := range keys {
		name, err := store.Segment(k)
		if err != nil {
			e.cfg.Log.Error("a key of the store is not the name of a host", "key", k, "err", err)
			continue
		}
		n, err := keysource.ServerName(name)
		if err != nil || string(n) != name {
			e.cfg.Log.Error("a pin in the store is of no server name; it does not count", "name", name)
			continue
		}
		val, _, err := e.cfg.Store.Get(ctx, k)
		switch p := new(pin); {
		case errors.Is(err, store.ErrNotExist):
			read[n] = nil
		case err != nil:
			return err
		case json.Unmarshal(val, p) != nil:
			e.cfg.Log.Error("a pin in the store cannot be read; it does not count: unpin the host and pin it again",
				"name", name)
			read[n] = nil
		default:
			read[n] = p
		}
	}
	e.since = head
	e.mu.Lock()
	defer e.mu.Unlock()
	for n, p := range read {
		if p == nil {
			delete(e.pins, n)
		} else {
			e.pins[n] = *p
		}
	}
	return nil
}

// oldest lists the pins in the order in which they count: an older pin keeps its place. The caller
// holds mu.
func (e *Eager) oldest() []keysource.Name {
	return slices.SortedFunc(maps.Keys(e.pins), func(a, b keysource.Name) int {
		return cmp.Or(e.pins[a].At.Compare(e.pins[b].At), cmp.Compare(a, b))
	})
}
