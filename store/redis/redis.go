// Package redis keeps the store in Redis (7.0 or later): a single server, a master that Sentinels watch, or a cluster, for several replicas of
// lockstepd.
//
// Whatever it does is one script that Redis runs as a whole, and everything of a store is in one slot of a cluster, so on one master. A swap
// compares, writes, and enters the key into an index by revision (for [Store.Changed]; deletes stay in it) and one by name. Only masters are
// asked: a script that finds itself on a replica does nothing.
//
// Redis acknowledges a write before its replicas have it, and a failover loses what they lack. So a swap waits until one has it, where the
// master has one that is in order; where it has none, only its disk keeps the write: appendonly yes and appendfsync always. A master that was
// cut off or stalled while the Sentinels made another one has none: with min-replicas-to-write 1 it takes no writes until it is told.
//
// A read is not linearizable. It may see what no replica has yet, and a failover may then lose. And a master that was cut off, and does not know
// that another one was made, answers from the past whoever still reaches it, until it is told or the client's connection ends; with
// min-replicas-to-write 1 nothing can be built on that, since a swap there fails. (A replica that knows that it is one never answers.)
//
// A revision is the server's microseconds since 1970 (exact in the doubles that Redis has for scores until 2255), or one more than the highest
// that the server or the writer knows of, if that is more. So it grows where clocks do not, and after a failover that lost some it still is
// above all that the writer has seen, and is none of those that were lost unless two servers' clocks gave out the same microsecond.
//
// After a failover or a restart, what was read before may be of writes that are lost. Redis gives its data a new history id then, which every
// answer tells; [Store.Changed] then names every key once.
package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lockstep-tls/lockstep/store"
)

// Store keeps the [store.Store] contract in Redis. Safe for concurrent use. Every request is given up after 5 s at the latest; when Redis is
// back it goes on by itself.
//
// A record with a random id is made with the store. Where it is missing or another one, every method's error wraps [store.ErrLost], until
// [Store.Recreate].
type Store struct {
	backend *backend
	layout  layout
	noWait  bool
	log     *slog.Logger

	opened atomic.Pointer[string] // the store's id
	past   past
	alone  atomic.Bool // the latest write found no replica
}

// Open connects, and makes the store if there is none. It refuses a Redis that would drop records when its memory is full.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	backend, err := cfg.connect()
	if err != nil {
		return nil, err
	}
	s := &Store{backend: backend, layout: newLayout(cfg.Prefix), noWait: cfg.NoWait, log: cfg.Log}
	s.opened.Store(new(string))
	if err = s.inspect(ctx); err == nil {
		err = s.Recreate(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, backend.close())
	}
	return s, nil
}

// Close ends all use; calls under way fail.
func (s *Store) Close() error { return s.backend.close() }

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	r, err := s.read(ctx, getScript, []string{key}, key)
	if err != nil {
		return nil, 0, err
	}
	if len(r.rest) == 0 {
		return nil, 0, fmt.Errorf("%w: %s", store.ErrNotExist, key)
	}
	val, ok := r.string(1)
	if !ok {
		return nil, 0, s.noRevision(key)
	}
	return []byte(val), store.Rev(r.number(0)), nil
}

func (s *Store) noRevision(key string) error {
	return fmt.Errorf("store: %s has a value in Redis, but no revision in %s: it was changed by hand", key, s.layout.changes)
}

// Now implements [store.Store]: the clock of the master.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	r, err := s.read(ctx, timeScript, nil)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(int64(r.number(0)), int64(r.number(1))*1000), nil
}

// Recreate implements [store.Store]. It takes the store as it stands, or makes an empty one if there is
// none.
func (s *Store) Recreate(ctx context.Context) error {
	r, err := s.write(ctx, passes, makeScript, nil, s.past.floor(), rand.Text())
	if err != nil {
		return err
	}
	id, ok := r.string(0)
	if !ok {
		return fmt.Errorf("store: %s in Redis has no id: it was changed by hand", s.layout.meta)
	}
	if id != s.id() {
		s.past.end()
		s.opened.Store(&id)
	}
	return nil
}

func (s *Store) id() string { return *s.opened.Load() }

// inspect looks at the settings of the server on which the store would lose records.
func (s *Store) inspect(ctx context.Context) error {
	var info string
	err := s.persist(ctx, passes, func(ctx context.Context, c *redis.Client) (err error) {
		info, err = c.Info(ctx).Result()
		return err
	})
	if err != nil {
		return err
	}
	has := func(line string) bool { return strings.Contains(info, "\r\n"+line) }
	if has("maxmemory_policy:allkeys") {
		return errors.New("store: Redis would drop records of the store when its memory is full: set maxmemory-policy noeviction")
	}
	if has("aof_enabled:0") {
		s.log.Warn("the store's Redis keeps no log of writes, and loses what it holds with its process: set appendonly yes and appendfsync always")
	}
	return nil
}
