package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lockstep-tls/lockstep/store"
)

// How long a replica is waited for.
const waitTimeout = time.Second

// errUnknown: a write may have been done or not, or may not last.
var errUnknown = errors.New("with an unknown outcome")

// Swap implements [store.Store]. It returns when a replica has the change, if the master has one.
func (s *Store) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	args := []any{key, uint64(old), s.past.floor()}
	if val != nil {
		args = append(args, val)
	}
	r, err := s.write(ctx, refused, swapScript, []string{key}, args...)
	switch {
	case errors.Is(err, errConflict):
		return 0, fmt.Errorf("%w: %s is not at revision %d", store.ErrConflict, key, old)
	case err != nil:
		return 0, fmt.Errorf("%w (writing %s)", err, key)
	}
	return store.Rev(r.number(0)), nil
}

// write runs a script that returns what swapScript returns. It is tried again where again says so,
// but not once it may have been done.
func (s *Store) write(
	ctx context.Context, again func(error) bool, script *redis.Script, keys []string, args ...any,
) (r reply, err error) {
	retry := func(err error) bool { return !errors.Is(err, errUnknown) && again(err) }
	err = s.persist(ctx, retry, func(ctx context.Context, c *redis.Client) (err error) {
		conn := c.Conn() // WAIT is about what its own connection wrote
		defer conn.Close()
		r, err = s.call(ctx, conn, script, keys, args)
		if err != nil {
			if sent(err) {
				err = fmt.Errorf("%w: %w", errUnknown, err)
			}
			return err
		}
		return s.wait(ctx, conn, r.rest)
	})
	return r, err
}

// sent says that a write may have reached Redis, which did not refuse it.
func sent(err error) bool {
	var answer redis.Error
	var missed *unreached
	return !errors.As(err, &missed) && !refused(err) && !errors.As(err, &answer) &&
		!errors.Is(err, errConflict) && !errors.Is(err, store.ErrLost)
}

// wait waits until a replica has what conn wrote, where there is one.
func (s *Store) wait(ctx context.Context, conn *redis.Conn, written []any) error {
	if len(written) < 2 || written[1] == int64(-1) || s.noWait {
		return nil
	}
	replicated := written[1] == int64(1)
	if was := s.alone.Swap(!replicated); was == replicated {
		if replicated {
			s.log.Info("the store's Redis has a replica: writes wait for it")
		} else {
			s.log.Warn("the store's Redis has no replica in order: what is written is lost if its disk is")
		}
	}
	if !replicated {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout+readTimeout)
	defer cancel()
	n, err := conn.Wait(ctx, 1, waitTimeout).Result()
	switch {
	case err != nil:
		return fmt.Errorf("%w: waiting for a replica: %w", errUnknown, err)
	case n < 1:
		return fmt.Errorf("%w: the master has it, but no replica has confirmed it within %v, "+
			"and a failover would lose it: see its redis-cli info replication",
			errUnknown, waitTimeout)
	}
	return nil
}
