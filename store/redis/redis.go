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

// Store keeps the [store.Store] contract in Redis. Safe for concurrent use. Every request is given
// up after 5 s at the latest; when Redis is back it goes on by itself.
//
// A record with a random id is made with the store. Where it is missing or another one, every
// method's error wraps [store.ErrLost], until [Store.Recreate].
type Store struct {
	backend *backend
	layout  layout
	noWait  bool
	tls     bool
	log     *slog.Logger

	opened atomic.Pointer[string] // the store's id
	past   past
	alone  atomic.Bool // the latest write found no replica
}

// Open connects, and makes the store if there is none. It refuses a Redis that would drop records
// when its memory is full.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	backend, err := cfg.connect()
	if err != nil {
		return nil, err
	}
	s := &Store{backend: backend, layout: newLayout(cfg.Prefix), noWait: cfg.NoWait, tls: cfg.TLS, log: cfg.Log}
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
	return fmt.Errorf("store: %s has a value in Redis, but no revision in %s: it was changed by hand",
		key, s.layout.changes)
}

// Now implements [store.Store]: the clock of the master.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	r, err := s.read(ctx, timeScript, nil)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(int64(r.number(0)), int64(r.number(1))*1000), nil
}

// Recreate implements [store.Store]. It takes the store as it stands, or makes an empty one if
// there is none.
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
		return errors.New("store: Redis would drop records of the store when its memory is full: " +
			"set maxmemory-policy noeviction")
	}
	if has("aof_enabled:0") {
		s.log.Warn("the store's Redis keeps no log of writes, and loses what it holds with its process: " +
			"set appendonly yes and appendfsync always")
	}
	return nil
}
