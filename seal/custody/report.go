package custody

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
)

// replicaPrefix: seal/replica/<name> says which keys a replica holds. It is written when that changes, and every ten minutes.
const replicaPrefix = "seal/replica"

var doneKey = store.Key("seal", "done") // the primary key with which every record was sealed

// Report is what a replica said of its keyset.
type Report struct {
	Replica string    `json:"-"`
	Primary string    `json:"primary"`
	Keys    []string  `json:"keys"`
	At      time.Time `json:"at"`
}

func (c *Custodian) report(ctx context.Context) error {
	st := c.Sealer.State()
	r := Report{Primary: st.Primary.String()}
	for _, id := range st.All() {
		r.Keys = append(r.Keys, id.String())
	}
	said := r.Primary + " " + strings.Join(r.Keys, " ")
	if said == c.said && time.Since(c.saidAt) < reportEvery {
		return nil
	}
	var err error
	if r.At, err = c.Store.Now(ctx); err != nil {
		return err
	}
	val, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := put(ctx, c.Store, store.Key("seal", "replica", c.Replica), val); err != nil {
		return err
	}
	c.said, c.saidAt = said, time.Now()
	return nil
}

// leave takes the report back: who is stopped is not waited for.
func (c *Custodian) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	key := store.Key("seal", "replica", c.Replica)
	if _, rev, err := c.Raw.Get(ctx, key); err == nil {
		_, _ = c.Raw.Swap(ctx, key, rev, nil) // if not, it ends by its age
	}
}

// put writes a value whoever wrote it before.
func put(ctx context.Context, s store.Store, key string, val []byte) error {
	for {
		_, rev, err := s.Get(ctx, key)
		if errors.Is(err, store.ErrSealed) { // of a stranger; let it be found
			return err
		}
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = s.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Reports are those of the replicas that live, by name.
func (c *Custodian) Reports(ctx context.Context) (out []Report, err error) {
	now, err := c.Store.Now(ctx)
	if err != nil {
		return nil, err
	}
	for key, err := range c.Store.Keys(ctx, replicaPrefix+"/") {
		if err != nil {
			return nil, err
		}
		val, _, err := c.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var r Report
		if err := json.Unmarshal(val, &r); err != nil {
			return nil, fmt.Errorf("%s is not a record that this version reads", key)
		}
		if now.Sub(r.At) > silentFor {
			continue
		}
		if r.Replica, err = store.Segment(key); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// lacking names the replicas that do not hold a key.
func (c *Custodian) lacking(ctx context.Context, id seal.KeyID) ([]string, error) {
	return c.those(ctx, func(r Report) bool { return !slices.Contains(r.Keys, id.String()) })
}

// otherwise names the replicas that seal with another key.
func (c *Custodian) otherwise(ctx context.Context, id seal.KeyID) ([]string, error) {
	return c.those(ctx, func(r Report) bool { return r.Primary != id.String() })
}

func (c *Custodian) those(ctx context.Context, is func(Report) bool) (names []string, err error) {
	all, err := c.Reports(ctx)
	for _, r := range all {
		if is(r) {
			names = append(names, r.Replica)
		}
	}
	return names, err
}

// done is the key of which a replica has noted that it sealed everything; 0 where none has.
func (c *Custodian) done(ctx context.Context) (seal.KeyID, error) {
	val, _, err := c.Store.Get(ctx, doneKey)
	if errors.Is(err, store.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var id uint32
	if _, err := fmt.Sscanf(string(val), "%08x", &id); err != nil {
		return 0, nil // it is only a note: the work is done again
	}
	return seal.KeyID(id), nil
}

func (c *Custodian) setDone(ctx context.Context, id seal.KeyID) error {
	return put(ctx, c.Store, doneKey, []byte(id.String()))
}
