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

// askKey has the time, by the store's clock, at which somebody asked every replica to report.
var askKey = store.Seal.Key("ask")

// Report is what a replica says of its keyset, under seal/replica/<name>. It is written when that
// changes, when somebody asked, and every ten minutes.
type Report struct {
	Replica string `json:"-"`
	// Primary is the key with which everything was sealed that it wrote in the last seconds.
	Primary string    `json:"primary"`
	Keys    []string  `json:"keys"`
	At      time.Time `json:"at"`
}

// report writes this replica's report, if it changed, is old, or was asked for.
func (c *Custodian) report(ctx context.Context) error {
	st := c.cfg.Sealer.State()
	if err := c.notePrimary(ctx, st.Primary); err != nil {
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
	if said == c.reported && time.Since(c.reportedAt) < reportEvery && c.reportedIn.After(asked) {
		return nil
	}
	if r.At, err = c.cfg.Store.Now(ctx); err != nil {
		return err
	}
	val, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := c.put(ctx, store.SealReports.Key(c.cfg.Replica), val); err != nil {
		return err
	}
	c.reported, c.reportedAt, c.reportedIn = said, time.Now(), r.At
	return nil
}

// notePrimary notes that another key seals. This is reported only once what was sealed before must
// have arrived in the store.
func (c *Custodian) notePrimary(ctx context.Context, primary seal.KeyID) error {
	if primary != c.nextPrimary {
		c.nextPrimary, c.changedAt = primary, time.Now()
		time.AfterFunc(inFlight, c.signal)
	}
	if c.nextPrimary == c.primary || time.Since(c.changedAt) < inFlight {
		return nil
	}
	if err := dropNote(ctx, c.cfg.Store, c.cfg.Raw, c.cfg.Sealer, func(string) bool { return true }); err != nil {
		return err
	}
	c.primary = c.nextPrimary
	return nil
}

// asked returns when somebody asked for reports last.
func (c *Custodian) asked(ctx context.Context) (at time.Time, err error) {
	val, _, err := c.cfg.Store.Get(ctx, askKey)
	// Whoever asks again writes it anew.
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrSealed) {
		return at, nil
	}
	if err == nil && at.UnmarshalText(val) != nil {
		at = time.Time{}
	}
	return at, err
}

// ask makes every replica report within its refresh. It returns the time from which on a report is
// an answer.
func (c *Custodian) ask(ctx context.Context) (at time.Time, err error) {
	if at, err = c.cfg.Store.Now(ctx); err != nil {
		return at, err
	}
	val, err := at.MarshalText()
	if err != nil {
		return at, err
	}
	return at, c.put(ctx, askKey, val)
}

// leave removes the report, so that a replica that was stopped is not waited for.
func (c *Custodian) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	key := store.SealReports.Key(c.cfg.Replica)
	if _, rev, err := c.cfg.Raw.Get(ctx, key); err == nil {
		_, _ = c.cfg.Raw.Swap(ctx, key, rev, nil) // if this fails, the report ends by its age
	}
}

// put writes a value, whoever wrote the last one, and whether or not that opens.
func (c *Custodian) put(ctx context.Context, key string, val []byte) error {
	for {
		_, rev, err := c.cfg.Raw.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = c.cfg.Store.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// unread is a report that cannot be read, at a revision.
type unread struct {
	rev   store.Rev
	since time.Time // when it was first seen
}

// Reports returns the reports of the replicas that live, by name, and the names of those whose
// reports cannot be read. A living replica writes its report anew.
func (c *Custodian) Reports(ctx context.Context) (out []Report, unreadable []string, err error) {
	now, err := c.cfg.Store.Now(ctx)
	if err != nil {
		return nil, nil, err
	}
	found := map[string]unread{}
	for key, err := range c.cfg.Store.Keys(ctx, store.SealReports.All()) {
		if err != nil {
			return nil, nil, err
		}
		name, err := store.Segment(key)
		if err != nil {
			return nil, nil, err
		}
		val, rev, err := c.cfg.Raw.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		r := Report{Replica: name}
		plain, err := c.cfg.Sealer.Open(val, []byte(key))
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

// stillUnread reports whether the replica of a report that cannot be read may live. It is gone if
// its record has not changed for silentFor.
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

// namesOf describes the replicas for which is returns something, and those whose reports cannot be
// read.
func (c *Custodian) namesOf(ctx context.Context, is func(Report) string) (who []string, err error) {
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

// lacking names the replicas that do not have a key.
func (c *Custodian) lacking(ctx context.Context, id seal.KeyID) ([]string, error) {
	return c.namesOf(ctx, func(r Report) string {
		if slices.Contains(r.Keys, id.String()) {
			return ""
		}
		return r.Replica
	})
}

// sealingOtherwise names the replicas that may have written with another key.
func (c *Custodian) sealingOtherwise(ctx context.Context, id seal.KeyID) ([]string, error) {
	return c.namesOf(ctx, func(r Report) string {
		if r.Primary == id.String() {
			return ""
		}
		return r.Replica
	})
}

// notReported names the replicas that have not reported since a time that they seal with a key.
func (c *Custodian) notReported(ctx context.Context, id seal.KeyID, since time.Time) ([]string, error) {
	return c.namesOf(ctx, func(r Report) string {
		switch {
		case r.Primary != id.String():
			return fmt.Sprintf("%s (seals with %s)", r.Replica, r.Primary)
		case r.At.Before(since):
			return fmt.Sprintf("%s (not heard of since %s)", r.Replica, r.At.UTC().Format(time.RFC3339))
		}
		return ""
	})
}
