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

// askKey holds the time, by the store's clock, at which somebody wanted to hear of every replica.
var askKey = store.Seal.Key("ask")

// Report is what a replica said of its keyset. It is written when that changes, when somebody asked, and
// every ten minutes.
type Report struct {
	Replica string    `json:"-"`
	Primary string    `json:"primary"` // everything that it wrote in the last seconds was sealed with this one
	Keys    []string  `json:"keys"`
	At      time.Time `json:"at"`
}

func (c *Custodian) report(ctx context.Context) error {
	st := c.Sealer.State()
	if err := c.follow(ctx, st.Primary); err != nil {
		return err
	}
	r := Report{Primary: c.primary.String()}
	for _, id := range st.All() {
		r.Keys = append(r.Keys, id.String())
	}
	asked, err := c.asked(ctx)
	if err != nil {
		return err
	}
	said := r.Primary + " " + strings.Join(r.Keys, " ")
	if said == c.said && time.Since(c.saidAt) < reportEvery && c.saidIn.After(asked) {
		return nil
	}
	if r.At, err = c.Store.Now(ctx); err != nil {
		return err
	}
	val, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := c.put(ctx, store.SealReports.Key(c.Replica), val); err != nil {
		return err
	}
	c.said, c.saidAt, c.saidIn = said, time.Now(), r.At
	return nil
}

// follow notes that another key seals. That is only said once what was sealed before must have arrived in the store.
func (c *Custodian) follow(ctx context.Context, primary seal.KeyID) error {
	if primary != c.turning {
		c.turning, c.turned = primary, time.Now()
		time.AfterFunc(inFlight, c.poke)
	}
	if c.turning == c.primary || time.Since(c.turned) < inFlight {
		return nil
	}
	if err := dropNote(ctx, c.Store, c.Raw, c.Sealer, func(string) bool { return true }); err != nil {
		return err
	}
	c.primary = c.turning
	return nil
}

func (c *Custodian) asked(ctx context.Context) (at time.Time, err error) {
	val, _, err := c.Store.Get(ctx, askKey)
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrSealed) { // who asks again writes it anew
		return at, nil
	}
	if err == nil && at.UnmarshalText(val) != nil {
		at = time.Time{}
	}
	return at, err
}

// ask has every replica report within its refresh, and returns the time from which on a report answers.
func (c *Custodian) ask(ctx context.Context) (at time.Time, err error) {
	if at, err = c.Store.Now(ctx); err != nil {
		return at, err
	}
	val, err := at.MarshalText()
	if err != nil {
		return at, err
	}
	return at, c.put(ctx, askKey, val)
}

// leave takes the report back: who is stopped is not waited for.
func (c *Custodian) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	key := store.SealReports.Key(c.Replica)
	if _, rev, err := c.Raw.Get(ctx, key); err == nil {
		_, _ = c.Raw.Swap(ctx, key, rev, nil) // if not, it ends by its age
	}
}

// put writes a value whoever wrote it before, and whether or not that opens.
func (c *Custodian) put(ctx context.Context, key string, val []byte) error {
	for {
		_, rev, err := c.Raw.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = c.Store.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// unread is a report that cannot be read, at a revision.
type unread struct {
	rev   store.Rev
	since time.Time // first seen
}

// Reports are those of the replicas that live, by name, and the names of those whose reports cannot be read: a living replica writes its own anew.
func (c *Custodian) Reports(ctx context.Context) (out []Report, unreadable []string, err error) {
	now, err := c.Store.Now(ctx)
	if err != nil {
		return nil, nil, err
	}
	found := map[string]unread{}
	for key, err := range c.Store.Keys(ctx, store.SealReports.All()) {
		if err != nil {
			return nil, nil, err
		}
		name, err := store.Segment(key)
		if err != nil {
			return nil, nil, err
		}
		val, rev, err := c.Raw.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		r := Report{Replica: name}
		plain, err := c.Sealer.Open(val, []byte(key))
		if err != nil || json.Unmarshal(plain, &r) != nil {
			if c.stillUnread(name, rev, found) {
				unreadable = append(unreadable, name)
			}
			continue
		}
		if now.Sub(r.At) <= silentFor {
			out = append(out, r)
		}
	}
	c.mu.Lock()
	c.unread = found
	c.mu.Unlock()
	return out, unreadable, nil
}

// stillUnread: the replica may live; one whose record has not changed for silentFor is gone.
func (c *Custodian) stillUnread(name string, rev store.Rev, found map[string]unread) bool {
	c.mu.Lock()
	u := c.unread[name]
	c.mu.Unlock()
	if u.rev != rev {
		u = unread{rev, time.Now()}
	}
	found[name] = u
	return time.Since(u.since) <= silentFor
}

// those describes the replicas for which is says something, and those whose reports cannot be read.
func (c *Custodian) those(ctx context.Context, is func(Report) string) (who []string, err error) {
	all, unreadable, err := c.Reports(ctx)
	for _, r := range all {
		if s := is(r); s != "" {
			who = append(who, s)
		}
	}
	for _, name := range unreadable {
		who = append(who, name+" (its report cannot be read)")
	}
	return who, err
}

// lacking names the replicas that do not hold a key.
func (c *Custodian) lacking(ctx context.Context, id seal.KeyID) ([]string, error) {
	return c.those(ctx, func(r Report) string {
		if slices.Contains(r.Keys, id.String()) {
			return ""
		}
		return r.Replica
	})
}

// otherwise names the replicas that may have written with another key.
func (c *Custodian) otherwise(ctx context.Context, id seal.KeyID) ([]string, error) {
	return c.those(ctx, func(r Report) string {
		if r.Primary == id.String() {
			return ""
		}
		return r.Replica
	})
}

// unshown names the replicas that have not said since a time that they seal with a key.
func (c *Custodian) unshown(ctx context.Context, id seal.KeyID, since time.Time) ([]string, error) {
	return c.those(ctx, func(r Report) string {
		switch {
		case r.Primary != id.String():
			return fmt.Sprintf("%s (seals with %s)", r.Replica, r.Primary)
		case r.At.Before(since):
			return fmt.Sprintf("%s (not heard of since %s)", r.Replica, r.At.UTC().Format(time.RFC3339))
		}
		return ""
	})
}
