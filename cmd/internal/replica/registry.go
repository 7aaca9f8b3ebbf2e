package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	// lookEvery is how often the records are read at least, and the other replicas asked.
	lookEvery = 10 * time.Second
	// lookWithin bounds one look.
	lookWithin = 5 * time.Second
	// askWithin bounds how long the other replicas' answers are waited for.
	askWithin = 2 * time.Second
	// writeEvery is how often a replica writes its record. The roster says in between that it is
	// alive.
	writeEvery = time.Minute
	// staleAfter is how much older than the roster a record may be. Beyond that, an earlier version
	// has taken the replica's place.
	staleAfter = 3 * writeEvery
	// leaveWithin bounds the last write at a stop. The roster may be written as much later.
	leaveWithin = 2 * time.Second
	// slack is how much later than its goodbye the roster of a replica may be written.
	slack = 15 * time.Second
	// missingAfter is how long a replica must be unheard, beyond the 30 s of its roster. After an
	// outage of the store the others need some seconds until they write again.
	missingAfter = 15 * time.Second
	// unreachableAfter is how long a replica must not have answered.
	unreachableAfter = 45 * time.Second
	// forgetAfter is when a replica that is not here is forgotten. A record that nobody can read is
	// deleted after as long.
	forgetAfter = 24 * time.Hour
	// upgradeFor is how long an upgrade may take until different versions are a warning.
	upgradeFor = time.Hour
	// maxKnown bounds the replicas that are read.
	maxKnown = 200
)

// Config of a [Registry].
type Config struct {
	// Store holds the records, which the replicas share.
	Store   store.Store
	Replica string
	Version string // Version is that of this program.
	// Admin is the URL of this replica's admin API, for the words.
	Admin string
	// Shared reports that other replicas may use the store. Else there is nothing to write.
	Shared bool
	// Refresh is how often the records are read, if that is more often than every 10 s.
	Refresh time.Duration
	Fleet   Fleet
	Ask     Peers
	// Ready is closed once this replica may work on the store. It writes no record before, so that
	// one whose start is refused is not missed later. Nil stands for a closed channel.
	Ready <-chan struct{}
	// Unsealed is asked when a record does not open. An error means that others do not either, and
	// that the record need not be damaged. Nil means that it is.
	Unsealed func(ctx context.Context) error
	Log      *slog.Logger
}

// Fleet is what the registry asks of [fleet.Coordinator].
type Fleet interface {
	Peers() []fleet.Peer
}

// Peers asks other replicas; see [fleet.Peers].
type Peers interface {
	Mute(ctx context.Context, p fleet.Peer) (bool, error)
}

// Registry knows the replicas. All methods are safe for concurrent use, but Run is called once.
type Registry struct {
	cfg   Config
	begun time.Time // begun is when this process started, by its own clock.
	run   string    // run is a random word of this process.
	wrote record    // wrote is what it has written last. Run uses it.

	mu      sync.Mutex
	offset  time.Duration // offset is how far the store's clock is ahead of this machine's.
	looked  time.Time     // looked is when the last look succeeded, by this machine's clock.
	failed  bool
	records map[string]record     // records are those of all replicas, as they were read last.
	unread  map[string]unreadable // unread are the records that cannot be read.
	heard   map[string]heard      // heard are the other replicas that were alive since the start.
	silent  map[string]silence
	// elsewhere are those that cannot ask this replica, with the address that they gave.
	elsewhere map[string]string
	mixed     mixture
	twin      twin
}

// New starts nothing.
func New(c Config) *Registry {
	return &Registry{
		cfg: c, begun: time.Now(), run: rand.Text(), records: map[string]record{}, heard: map[string]heard{},
		silent: map[string]silence{}, elsewhere: map[string]string{},
	}
}

// Run keeps the records until ctx ends. If nothing failed, it says goodbye then.
func (r *Registry) Run(ctx context.Context) error {
	if !r.cfg.Shared {
		<-ctx.Done()
		return nil
	}
	every := min(lookEvery, max(r.cfg.Refresh, time.Second))
	for {
		err := r.look(ctx)
		r.mu.Lock()
		before := r.failed
		r.failed = err != nil
		r.mu.Unlock()
		switch {
		case ctx.Err() != nil:
		case err != nil && !before:
			r.cfg.Log.Warn("which replicas there are cannot be kept; trying again", "err", err, "every", every)
		case err == nil && before:
			r.cfg.Log.Info("which replicas there are is kept again")
		}
		select {
		case <-ctx.Done():
			// Another cause means that a part of lockstepd has failed.
			if errors.Is(context.Cause(ctx), context.Canceled) {
				r.leave()
			}
			return nil
		case <-time.After(every):
		}
	}
}

// look reads what the others say of themselves, writes what this replica is, and asks those that
// are alive. A store that is slow takes no time from their answers.
func (r *Registry) look(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	peers := r.cfg.Fleet.Peers()
	now, err := r.cfg.Store.Now(within)
	if err == nil {
		err = r.readAll(within, peers, now)
	}
	if err != nil {
		r.interrupted()
		return err
	}
	local := time.Now()
	r.hear(peers, now, local)
	r.mix(local)
	if r.due(now, local) {
		err = r.write(within, now, false)
	}
	r.forget(within, now)
	r.ask(ctx, peers)
	return err
}

// ready reports whether this replica may work on the store.
func (r *Registry) ready() bool {
	if r.cfg.Ready == nil {
		return true
	}
	select {
	case <-r.cfg.Ready:
		return true
	default:
		return false
	}
}

// started is when this process started, by the store's clock.
func (r *Registry) started(now, local time.Time) time.Time { return now.Add(-local.Sub(r.begun)) }
