// Package advice adds to the errors of the library rooms what an operator types. The rooms say
// what is wrong, by sentinels, and know no command.
package advice

import (
	"errors"
	"log/slog"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
)

// cures says what to type. The first one whose error is wrapped counts.
var cures = []struct {
	err error
	do  string
}{
	{audit.ErrBroken, "lockstep audit verify names the break; type lockstep restore or lockstep audit mend"},
	{store.ErrFrozen, thaw},
	{guard.ErrOvertaken, thaw},
	{enforce.ErrPutBack, "lockstep audit show has the digests"},
	{rotation.ErrUnderway, "lockstep status"},
	{rotation.ErrTooManyExcluded, "lockstep exclude NODE --for 0"},
}

const thaw = "lockstep store thaw ends it"

// advised is an error with what to type behind its words.
type advised struct {
	error
	do string
}

func (a advised) Error() string { return a.error.Error() + " (" + a.do + ")" }
func (a advised) Unwrap() error { return a.error }

// Add returns err with what to type behind its words, in parentheses. It returns err itself if
// there is nothing to type, or if that stands there.
func Add(err error) error {
	if err == nil || errors.As(err, new(advised)) {
		return err
	}
	if do := For(err); do != "" {
		return advised{err, do}
	}
	return err
}

// For returns what to type about err, or "" if there is nothing to type.
func For(err error) string {
	for _, c := range cures {
		if errors.Is(err, c.err) {
			return c.do
		}
	}
	return ""
}

// Log is a [slog.HandlerOptions].ReplaceAttr that adds to each error in a log what to type.
func Log(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindAny {
		return a
	}
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.AnyValue(Add(err))
	}
	return a
}

// DamagedRing says how a scope gets a ring whose record is damaged.
func DamagedRing(scope string) string {
	return "restore a backup of it (lockstep restore FILE), or replace every key (lockstep burn " + scope + ")"
}
