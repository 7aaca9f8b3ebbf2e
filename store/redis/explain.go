package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/redis/go-redis/v9"

	"github.com/lockstep-tls/lockstep/store"
)

// refusals are the answers with which Redis says that it did nothing: the word that each begins
// with, whether it passes by itself, and what it takes.
var refusals = []struct {
	word   string
	passes bool
	advice string
}{
	{"LOADING", true, "it has just started, and reads its data"},
	{"READONLY", true, "it is a replica: a failover is under way, or the URL names the wrong server"},
	{"MASTERDOWN", true, "it is a replica that has lost its master: see to the master, or to the failover"},
	{"CLUSTERDOWN", true, "a part of the cluster has no master: see redis-cli cluster nodes"},
	{"TRYAGAIN", true, "the store's slot is being moved to another server; if that was given up half way: " +
		"redis-cli --cluster fix"},
	{"ASK", true, "the store's slot is being moved to another server; if that was given up half way: " +
		"redis-cli --cluster fix"},
	{"MOVED", true, "the store's slot is on another server; if it is one that runs on its own, use redis+cluster://"},
	{"NOREPLICAS", true, "fewer replicas are in order than min-replicas-to-write says: bring them back"},
	{"BUSY", true, "a script of somebody else keeps it busy: redis-cli script kill"},
	{"max number of clients", true, "raise maxclients, or close what is connected needlessly: redis-cli client list"},
	{"MISCONF", false, "it cannot write to its disk: see its log and the disk"},
	{"OOM", false, "its memory is full: raise maxmemory, " +
		"or remove what else is stored there (maxmemory-policy stays noeviction)"},
	{"NOAUTH", false, "it wants a password: give password_file=/path, and user@ for an ACL user"},
	{"WRONGPASS", false, "the user is unknown or switched off, or password_file holds another password: " +
		"see redis-cli acl list"},
	{"NOPERM", false, needs},
	{"The user executing the script", false, needs},
}

const needs = "the ACL user needs: on ~{prefix}:* +@read +@write +@scripting +@connection +info +time +wait " +
	"(and on a cluster +cluster)"

func refusal(err error) (passes bool, advice string, found bool) {
	for _, r := range refusals {
		if redis.HasErrorPrefix(err, r.word) {
			return r.passes, r.advice, true
		}
	}
	return false, "", false
}

// refused says that nothing was done, and that it is worth another try.
func refused(err error) bool {
	if passes, _, found := refusal(err); found {
		return passes
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted)
}

// passes says that a read is worth another try.
func passes(err error) bool {
	if passes, _, found := refusal(err); found {
		return passes
	}
	var answer redis.Error
	return !errors.Is(err, store.ErrLost) && !errors.Is(err, redis.ErrClosed) && !errors.As(err, &answer)
}

// explain says what failed on which server, and the next step.
func (s *Store) explain(name string, err error) error {
	_, advice, found := refusal(err)
	switch {
	case errors.Is(err, store.ErrLost):
		return fmt.Errorf("store: %s has not the store that was opened: "+
			"%w (FLUSHALL, or a server that came back without its data)", name, err)
	case found:
		return fmt.Errorf("store: %s refuses: %w: %s", name, err, advice)
	case errors.Is(err, redis.Nil):
		return fmt.Errorf("store: %s: the Sentinels know no master of that name: "+
			"see redis-cli -p 26379 sentinel masters", name)
	case errors.Is(err, redis.ErrClosed):
		return fmt.Errorf("store: %s: %w", name, err)
	}
	var op net.Error
	if errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("store: %s does not answer: is it up, and reachable from here? %w", name, err)
	}
	return fmt.Errorf("store: %s: %w", name, err)
}
