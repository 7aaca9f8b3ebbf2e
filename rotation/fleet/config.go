package fleet

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// Config of a [Coordinator]. Every field is needed of which the comment does not say what nil or
// zero means.
type Config struct {
	Store store.Store
	// Replica names this replica in the store. It is the same after a restart.
	Replica string
	// Scopes are the configured ones. Their policies have been checked.
	Scopes map[string]rotation.Policy
	// Refresh is how often the store is read although nobody said that it changed.
	Refresh time.Duration
	// Shared says that other replicas may use the same store. Then a node that asks for its first
	// ring waits while its name cannot be stored, since another replica might go on without it. A
	// replica that is alone knows of the node, and goes on serving what is published.
	Shared bool
	Self   Peer // Self is what other replicas get to know of this one: Admin and Alone.
	// Peers asks the other replicas. If it is nil none is asked, and no node is let go.
	Peers Peers

	HighestSent HighestSent // HighestSent outlives the store. nil means that there is none.
	// Loss knows whether the store was emptied. If it is nil it is not asked.
	Loss Loss

	// Unsealed is asked when a ring does not open. An error means that others' records do not
	// open, either, so this replica lacks their key and nothing is damaged. If it is nil, what
	// does not open is damaged.
	Unsealed func(ctx context.Context) error

	// Wake is called when what Ring returns for the scope may have changed, for these streams, or
	// for all if streams is nil. It is called from the goroutine that made the change and must not
	// block.
	Wake func(scope string, streams []uint64)
	// Lifetime is called when what [Coordinator.TicketLifetime] returns for the scope has changed,
	// before a ring is sent that this concerns. It may be called by several goroutines, and must
	// not wait for the coordinator. If it is nil, no node is told of lifetimes.
	Lifetime func(scope string)
	// Announce is called for each line of the history when it has taken effect. version is that of
	// the ring to which it led. It is empty if that ring was replaced at once. Announce must not
	// block.
	Announce func(scope string, l rotation.Line, version string)
	// Record writes down what is about to be done, before it is done, and returns where that
	// stands, which is stored with the rollout. Its error refuses the change. If another replica
	// turns out to have been first, the change is not made. If Record is nil nothing is written
	// down.
	Record func(ctx context.Context, scope string, c Change) (audit string, err error)

	// Allows reports whether a node, by its id and its identity, may have the ring of a scope; see
	// [Coordinator.SetAllows]. nil allows all.
	Allows func(node, identity, scope string) bool
	// Revoked is called when a node that has asked for a ring may no longer have it. nil means
	// that nobody wants to know.
	Revoked func(scope string, a Asked)

	// Cure says, in words for the error, how an operator gets a ring for a scope whose record is
	// damaged and that no replica has in memory. If it is nil the error says nothing of that.
	Cure func(scope string) string

	Fresh func() keysource.TicketKey // Fresh makes keys. nil means keysource.NewTicketKey.
	Clock func() time.Time           // Clock is this machine's. nil means time.Now.
	Log   *slog.Logger
}

// HighestSent keeps, for each scope, the highest generation that this replica has ever sent,
// outside the store. It tells a store that was put back to an earlier day from one that is as it
// was. Raise is called when a generation is in the store and begins to be sent. Nothing is decided
// on that generation before Raise has returned. If Raise cannot write, or the machine fails
// meanwhile, the next Highest may be too low, and nothing else happens. Highest is at most 2^52.
type HighestSent interface {
	Highest(scope string) uint64
	Raise(scope string, generation uint64)
}

// Loss is what is known of a store that was emptied. Both methods may be called again and again,
// and from several goroutines.
type Loss interface {
	// Found is called when the store holds nothing of a scope that was sent before. It returns
	// once that is written down where every replica sees it.
	Found(ctx context.Context) error
	// Since returns when the store was found emptied. It is zero if it was not, or if what it had
	// lost was given up.
	Since(ctx context.Context) (time.Time, error)
}

// Peers asks other replicas. An implementation gives up when the context ends, and may be called
// from several goroutines.
type Peers interface {
	// Mute asks p whether it cannot write to the store that it is there; see [Coordinator.Mute].
	Mute(ctx context.Context, p Peer) (bool, error)
	// Reach asks p for anything. The error wraps [ErrAnotherReplica] if another one answers at p's
	// address.
	Reach(ctx context.Context, p Peer) error
}

// ErrAnotherReplica says that another replica answers at the address that a replica gave for its
// admin API.
var ErrAnotherReplica = errors.New("another replica answers there")

// ErrUnrecorded says that a change could not be written down, and was not made. What is published
// goes on being served. Steps that nobody asked for are tried again.
var ErrUnrecorded = errors.New("not made, since it cannot be written down")

// errAlone says that this replica cannot work beside another one on the same store.
var errAlone = errors.New("cannot work beside another replica")

// errPutBack says that the store holds an older ring than this replica has sent before. It is not
// served.
var errPutBack = errors.New("older than what was sent before")

// errRoster says that a stored roster is there and cannot be read.
var errRoster = errors.New("the stored roster is not a record that this version reads")

// refused reports whether err means that nothing was changed: the audit log or the store took no
// writes.
func refused(err error) bool { return errors.Is(err, ErrUnrecorded) || errors.Is(err, store.ErrFrozen) }

// isDamaged reports whether err says that a ring's record was read and is not what was written.
// What another version of lockstepd wrote is not damaged.
func isDamaged(err error) bool {
	return errors.Is(err, store.ErrSealed) || errors.Is(err, rotation.ErrDamaged)
}
