package replica

import (
	"context"
	"errors"
	"log/slog"
	"maps"
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
	// forgetAfter is when a replica that is not here is forgotten.
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
	Log     *slog.Logger
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

	mu      sync.Mutex
	offset  time.Duration // offset is how far the store's clock is ahead of this machine's.
	read    bool          // read reports that a look has succeeded.
	failed  bool
	records map[string]record // records are those of all replicas, as they were read last.
	heard   map[string]heard  // heard are the other replicas that were alive since the start.
	silent  map[string]silence
	// elsewhere are those that cannot ask this replica, with the address that they gave.
	elsewhere map[string]string
}

// heard is what the rosters said of a replica.
type heard struct {
	first, at time.Time // by the store's clock
	alive     bool
	// lost is since when it is not heard of any more, by this machine's clock.
	lost  time.Time
	admin string
}

// silence is since when a replica that is alive does not answer, and what happened at the last try.
type silence struct {
	since, last time.Time
	err         error
}

// New starts nothing.
func New(c Config) *Registry {
	return &Registry{
		cfg: c, begun: time.Now(), records: map[string]record{}, heard: map[string]heard{},
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
		within, cancel := context.WithTimeout(ctx, lookWithin)
		err := r.look(within)
		cancel()
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

// leave says that this replica stops on purpose.
func (r *Registry) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	now, err := r.cfg.Store.Now(ctx)
	if err == nil {
		err = r.write(ctx, now, true)
	}
	if err != nil {
		r.cfg.Log.Warn("the other replicas were not told that this one stops, and will call it missing", "err", err)
	}
}

// look reads what the others say of themselves, writes what this replica is, and asks those that
// are alive.
func (r *Registry) look(ctx context.Context) error {
	now, err := r.cfg.Store.Now(ctx)
	if err != nil {
		r.interrupted()
		return err
	}
	all, err := r.readAll(ctx)
	if err != nil {
		r.interrupted()
		return err
	}
	local := time.Now()
	r.mu.Lock()
	r.offset, r.read, r.records = now.Sub(local), true, all
	own, known := all[r.cfg.Replica]
	r.mu.Unlock()
	peers := r.cfg.Fleet.Peers()
	r.hear(peers, now, local)
	if !known || own.Version != r.cfg.Version || own.Stopped || own.Started.Sub(r.started(now, local)).Abs() > slack ||
		now.Sub(own.At) >= writeEvery || own.At.After(now) {
		err = r.write(ctx, now, false)
	}
	r.forget(ctx, now)
	r.ask(ctx, peers)
	return err
}

// started is when this process started, by the store's clock.
func (r *Registry) started(now, local time.Time) time.Time { return now.Add(-local.Sub(r.begun)) }

// interrupted notes that it is not known who is alive. Nobody's silence counts from before that.
func (r *Registry) interrupted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, h := range r.heard {
		if !h.lost.IsZero() {
			h.lost = time.Now()
			r.heard[name] = h
		}
	}
}

func (r *Registry) readAll(ctx context.Context) (map[string]record, error) {
	var keys []string
	for key, err := range r.cfg.Store.Keys(ctx, store.Replicas.All()) {
		if err != nil {
			return nil, err
		}
		if keys = append(keys, key); len(keys) == maxKnown {
			break
		}
	}
	all := map[string]record{}
	for i, v := range store.GetAll(ctx, r.cfg.Store, keys) {
		name, err := store.Segment(keys[i])
		if err != nil || errors.Is(v.Err, store.ErrNotExist) {
			continue
		}
		if v.Err != nil && !errors.Is(v.Err, store.ErrSealed) {
			return nil, v.Err
		}
		rec, err := decode(v.Val)
		if v.Err != nil || err != nil {
			continue // it writes another within a minute, if it runs
		}
		all[name] = rec
	}
	return all, nil
}

// hear notes which replicas are alive, and since when others are not.
func (r *Registry) hear(peers []fleet.Peer, now, local time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	alive := map[string]bool{}
	for _, p := range peers {
		alive[p.Replica] = true
		h, known := r.heard[p.Replica]
		if !known {
			if len(r.heard) >= maxKnown {
				continue
			}
			h.first = p.At
		}
		h.at, h.admin, h.alive, h.lost = p.At, p.Admin, true, time.Time{}
		r.heard[p.Replica] = h
	}
	for name, rec := range r.records { // those that were here before this one started
		if _, known := r.heard[name]; !known && name != r.cfg.Replica && len(r.heard) < maxKnown {
			r.heard[name] = heard{first: rec.Started, at: rec.At}
		}
	}
	for name, h := range r.heard {
		rec, recorded := r.records[name]
		switch {
		case alive[name]:
			continue
		case now.Sub(h.at) > forgetAfter && (!recorded || now.Sub(rec.At) > forgetAfter):
			delete(r.heard, name)
			continue
		case h.lost.IsZero():
			h.lost = local
		}
		h.alive = false
		r.heard[name] = h
	}
	maps.DeleteFunc(r.silent, func(name string, _ silence) bool { return !alive[name] })
	maps.DeleteFunc(r.elsewhere, func(name string, _ string) bool { return !alive[name] })
}

// write writes this replica's record, over whatever is there.
func (r *Registry) write(ctx context.Context, now time.Time, stopped bool) error {
	key := keyOf(r.cfg.Replica)
	for {
		val, rev, err := r.cfg.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed) {
			return err
		}
		rec, _ := decode(val) // one that cannot be read is replaced
		rec.Version, rec.At, rec.Stopped = r.cfg.Version, now, stopped
		rec.Started = r.started(now, time.Now())
		if val, err = rec.encode(); err != nil {
			return err
		}
		if _, err = r.cfg.Store.Swap(ctx, key, rev, val); errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			r.mu.Lock()
			r.records[r.cfg.Replica] = rec
			r.mu.Unlock()
		}
		return err
	}
}

// forget deletes the records of replicas that were not here for a day. It does not matter which
// replica does, nor when.
func (r *Registry) forget(ctx context.Context, now time.Time) {
	r.mu.Lock()
	var ended []string
	for name, rec := range r.records {
		if name != r.cfg.Replica && !r.heard[name].alive && now.Sub(rec.At) > forgetAfter {
			ended = append(ended, name)
		}
	}
	r.mu.Unlock()
	for _, name := range ended {
		val, rev, err := r.cfg.Store.Get(ctx, keyOf(name))
		if rec, bad := decode(val); err == nil && bad == nil && now.Sub(rec.At) > forgetAfter {
			_, _ = r.cfg.Store.Swap(ctx, keyOf(name), rev, nil) // the next look tries again
		}
	}
}

// ask asks those that are alive and have an address whether they answer.
func (r *Registry) ask(ctx context.Context, peers []fleet.Peer) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range peers {
		if p.Admin == "" {
			continue
		}
		all.Go(func() {
			began := time.Now()
			_, err := r.cfg.Ask.Mute(ctx, p)
			r.mu.Lock()
			defer r.mu.Unlock()
			if err == nil {
				delete(r.silent, p.Replica)
				return
			}
			s, before := r.silent[p.Replica]
			if !before {
				s.since = began
			}
			s.last, s.err = time.Now(), err
			r.silent[p.Replica] = s
		})
	}
	all.Wait()
}

// Unreachable notes and logs a replica that cannot ask this one for its nodes.
func (r *Registry) Unreachable(p fleet.Peer) {
	r.cfg.Log.Warn("another replica is on another machine, as it seems, and cannot ask this one for its nodes, "+
		"since this one's admin API listens on loopback: "+
		"set admin_listen (--admin-listen) to an address that the other replicas reach",
		"replica", p.Replica, "its_admin", p.Admin, "admin_listen", r.cfg.Admin)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.elsewhere[p.Replica] = p.Admin
}
