package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/redis"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// complaints is what status calls degraded at one replica, without what it was told by others.
func (r *replicated) complaints(p *fleet.Lockstepd) string {
	r.t.Helper()
	before := r.plane
	r.ask(p)
	defer r.ask(before)
	var st status
	r.ok(r.show(&st, "status"))
	return strings.Join(slices.DeleteFunc(st.Degraded, func(said string) bool {
		where, _, told := strings.Cut(said, ": ")
		return told && strings.HasPrefix(where, "at ") && !strings.Contains(where, r.id(p))
	}), "\n")
}

// complains waits until one of the replicas says all these words in its status, and in its log, and
// returns which.
func (r *replicated) complains(words ...string) (found *fleet.Lockstepd) {
	r.t.Helper()
	r.eventually(func() error {
		var all []string
		for _, p := range r.planes {
			said := r.complaints(p)
			if all = append(all, said); hasAll(said, words) {
				found = p
				return nil
			}
		}
		return fmt.Errorf("no replica complains of %q: %q", words, all)
	})
	return found
}

func hasAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// content waits until no replica complains.
func (r *replicated) content() {
	r.t.Helper()
	r.eventually(func() error {
		for _, p := range r.planes {
			if said := r.complaints(p); said != "" {
				return fmt.Errorf("%s still complains: %s", p.Name(), said)
			}
		}
		return nil
	})
}

// logged demands that the whole log of a replica has the words.
func (r *replicated) logged(p *fleet.Lockstepd, words string) {
	r.t.Helper()
	r.eventually(func() error {
		b, err := os.ReadFile(p.LogFile())
		if err == nil && !strings.Contains(string(b), words) {
			err = fmt.Errorf("the log of %s does not say %q", p.Name(), words)
		}
		return err
	})
}

// id is how the others call a replica.
func (r *replicated) id(p *fleet.Lockstepd) string {
	r.t.Helper()
	b, err := os.ReadFile(p.Data + "/replica")
	r.ok(err)
	return strings.TrimSpace(string(b))
}

// records is the store of a fleet without the seal: what somebody reaches who has the store's
// password and not the key.
type records struct {
	*replicated
	store.Store
}

func (r *replicated) records(url string) records {
	r.t.Helper()
	c, err := redis.ParseURL(url)
	r.ok(err)
	s, err := redis.Open(r.ctx, c)
	r.ok(err)
	r.t.Cleanup(func() { s.Close() })
	return records{r, s}
}

func (s records) read(key string) []byte {
	s.t.Helper()
	val, _, err := s.Get(s.ctx, key)
	s.ok(err)
	return val
}

// write puts a value under a key as a client of the store does, whatever is there.
func (s records) write(key string, val []byte) {
	s.t.Helper()
	for {
		_, rev, err := s.Get(s.ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			err = nil
		}
		s.ok(err)
		if _, err = s.Swap(s.ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			s.ok(err)
			return
		}
	}
}

// stays demands that no replica serves another ring for that long, but for keys whose last ticket
// is over, and that clients are served.
func (r *replicated) stays(a *account, before scope, why string, d time.Duration) {
	r.t.Helper()
	defer r.ask(r.plane)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, p := range r.planes {
			r.ask(p)
			now := r.scope()
			fresh := slices.ContainsFunc(now.ids(), func(id string) bool { return !slices.Contains(before.ids(), id) })
			if fresh || now.key("encrypt") != before.key("encrypt") ||
				generation(now.Version) < generation(before.Version) {
				r.t.Fatalf("%s: %s went from %s %v to %s %v",
					why, p.Name(), before.Version, before.ids(), now.Version, now.ids())
			}
		}
	}
	a.check(why)
}
