package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lockstep-tls/lockstep/store"
)

// How long a request is tried where the caller's context does not end earlier, and the pause
// between tries.
const (
	patience = 5 * time.Second
	between  = 100 * time.Millisecond
)

// errConflict is what the swap script says.
var errConflict = errors.New("conflict")

// reply is what a script returned after OK, the highest revision, and the history.
type reply struct {
	head    uint64
	history string
	rest    []any
}

func (r reply) number(i int) uint64 {
	if i < len(r.rest) {
		if n, ok := r.rest[i].(int64); ok {
			return uint64(n)
		}
	}
	return 0
}

func (r reply) at(i int) any {
	if i >= len(r.rest) {
		return nil
	}
	return r.rest[i]
}

func (r reply) string(i int) (string, bool) {
	if i >= len(r.rest) {
		return "", false
	}
	s, ok := r.rest[i].(string)
	return s, ok
}

func (r reply) strings(i int) []string {
	if i >= len(r.rest) {
		return nil
	}
	list, _ := r.rest[i].([]any)
	all := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// read runs a script that changes nothing, or nothing that may not be done twice, until it is
// answered, within patience.
func (s *Store) read(ctx context.Context, script *redis.Script, keys []string, args ...any) (r reply, err error) {
	err = s.persist(ctx, passes, func(ctx context.Context, c *redis.Client) error {
		r, err = s.call(ctx, c, script, keys, args)
		return err
	})
	return r, err
}

// call runs a script once.
func (s *Store) call(
	ctx context.Context, c redis.Scripter, script *redis.Script, keys []string, args []any,
) (reply, error) {
	list, err := script.Run(ctx, c, s.layout.keys(keys...), append([]any{s.id()}, args...)...).Slice()
	if err != nil {
		return reply{}, err
	}
	if len(list) > 0 {
		switch list[0] {
		case "LOST":
			return reply{}, store.ErrLost
		case "CONFLICT":
			return reply{}, errConflict
		}
	}
	if len(list) >= 3 && list[0] == "OK" {
		head, isRev := list[1].(int64)
		history, isID := list[2].(string)
		if isRev && isID {
			r := reply{uint64(head), history, list[3:]}
			if s.past.note(r.history, r.head) {
				s.log.Info("the store's Redis was restarted, or another server took over: " +
					"what is watched is read again as a whole")
			}
			return r, nil
		}
	}
	return reply{}, fmt.Errorf("an answer that makes no sense: %.200v", list)
}

// persist calls try until it succeeds or fails with an error for which again is false, within
// patience. What it returns says what failed.
func (s *Store) persist(
	ctx context.Context, again func(error) bool, try func(context.Context, *redis.Client) error,
) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error // before the time was over, which would hide it
	for {
		node, name, err := s.backend.node(bounded)
		if err == nil {
			if err = try(bounded, node); err == nil || errors.Is(err, errConflict) {
				return err
			}
		}
		s.backend.astray(bounded)
		err = s.explain(name, err)
		if last != nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errUnknown) {
			err = last
		}
		if last = err; ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		if !again(err) || bounded.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", ctx.Err(), err)
		case <-bounded.Done():
			return err
		case <-time.After(between/2 + rand.N(between)): // not in step with the other replicas
		}
	}
}
