package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

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
	{"DB index is out of range", false, "it has not so many databases: name one below its setting databases " +
		"(16 unless changed) after the last / of the URL, or raise that"},
	{"invalid DB index", false, "name a database below its setting databases after the last / of the URL"},
	{"SELECT is not allowed in cluster mode", false, "it is of a cluster, which has database 0 only: " +
		"use redis+cluster://"},
	{"This instance has cluster support disabled", false, "it is no cluster: use redis:// or redis+sentinel://"},
	{"unknown command 'SENTINEL'", false, asServer},
	{"unknown command 'sentinel'", false, asServer},
	{"unknown command `SENTINEL`", false, asServer}, // Redis 6
	{"unknown command `sentinel`", false, asServer},
	{"unknown command", false, "if it is a Sentinel, use redis+sentinel://; if the command was renamed or " +
		"switched off there (rename-command), give it back"},
	{"NOAUTH", false, "it wants a password: give password_file=/path, and user@ for an ACL user"},
	{"WRONGPASS", false, "the user is unknown or switched off, or password_file holds another password: " +
		"see redis-cli acl list"},
	{"NOPERM", false, needs},
	{"The user executing the script", false, needs},
}

const needs = "the ACL user needs: on ~{prefix}:* +@read +@write +@scripting +@connection +info +time +wait " +
	"(and on a cluster +cluster)"

const asServer = "it is no Sentinel: name the Sentinels and their port (26379), or use redis://"

// bySentinels is in the error of go-redis where no Sentinel could be asked.
const bySentinels = "all sentinels specified in configuration"

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
	var missed *unreached
	return errors.As(err, &missed) && !wrongCertificate(err) ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted)
}

// passes says that a read is worth another try.
func passes(err error) bool {
	if passes, _, found := refusal(err); found {
		return passes
	}
	var answer redis.Error
	return !wrongCertificate(err) && !errors.Is(err, store.ErrLost) &&
		!errors.Is(err, redis.ErrClosed) && !errors.As(err, &answer)
}

// explain says what failed on which server, and the next step.
func (s *Store) explain(name string, err error) error {
	var missed *unreached
	var op *net.OpError
	_, advice, found := refusal(err)
	atSentinels := err != nil && strings.Contains(err.Error(), bySentinels)
	switch {
	case errors.Is(err, store.ErrLost):
		return fmt.Errorf("store: %s has not the store that was opened: "+
			"%w (FLUSHALL, or a server that came back without its data)", name, err)
	case found && atSentinels && (redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "WRONGPASS")):
		return fmt.Errorf("store: %s: the Sentinels refuse: %w: give sentinel_password_file=/path, "+
			"and sentinel_user=NAME for an ACL user", name, err)
	case found && atSentinels && redis.HasErrorPrefix(err, "NOPERM"):
		return fmt.Errorf("store: %s: the Sentinels refuse: %w: the ACL user there needs "+
			"on allchannels +sentinel +subscribe +ping +auth", name, err)
	case found:
		return fmt.Errorf("store: %s refuses: %w: %s", name, err, advice)
	case errors.Is(err, redis.Nil):
		return fmt.Errorf("store: %s: the Sentinels know no master of that name: "+
			"see redis-cli -p 26379 sentinel masters", name)
	case errors.Is(err, redis.ErrClosed):
		return fmt.Errorf("store: %s: %w", name, err)
	case errors.As(err, &missed):
		return fmt.Errorf("store: %s %s %w", name, missed.diagnosis(), err)
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("store: %s %s: %w", name, clientCertificate, err)
	case !s.tls && cutOff(err):
		return fmt.Errorf("store: %s does not answer: is it up, and reachable from here? "+
			"If it takes TLS only, begin the URL with rediss, and give tls_ca=/path: %w", name, err)
	}
	var timeout net.Error
	if errors.As(err, &timeout) || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("store: %s does not answer: is it up, and reachable from here? %w", name, err)
	}
	return fmt.Errorf("store: %s: %w", name, err)
}

// cutOff reports whether the other side ended the connection.
func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
