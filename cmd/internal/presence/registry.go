package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	// rememberFor is how long a node that is gone is remembered.
	rememberFor = 30 * 24 * time.Hour
	// lookEvery is how often the records are read and written at most. It is a fifth of the lease,
	// so that a node which has moved is not taken for gone.
	lookEvery = 15 * time.Second
	// lookWithin bounds one look.
	lookWithin = 10 * time.Second
	// longGone is from when on a gone node is a problem. A node that is upgraded is back before.
	longGone = 15 * time.Minute
)

// Config of a [Registry].
type Config struct {
	// Store holds the records, which the replicas share.
	Store   store.Store
	Replica string
	// Fleet knows the other replicas, the rosters and the store's clock.
	Fleet Fleet
	// Refresh is how often the records are read at least.
	Refresh time.Duration
	// Expected are the ids of nodes that should be here.
	Expected []string
	// Unsealed is asked when a record does not open. An error means that others do not either, and
	// that the record need not be damaged. Nil means that it is.
	Unsealed func(ctx context.Context) error
	// Record is called with what happened to nodes. It does not block.
	Record func(recorder.Entry)
	Log    *slog.Logger
}

// Fleet is what the registry asks of [fleet.Coordinator].
type Fleet interface {
	Scopes() []string
	Status(scope string) (fleet.Status, error)
	Peers() []fleet.Peer
}

// Registry knows which nodes are here, and which were. All methods are safe for concurrent use, but
// Run is called once.
type Registry struct {
	cfg     Config
	tracker *tracker
	started time.Time

	mu     sync.Mutex
	shards map[string]stored // shards are the records as they were read last, by key.
	head   store.Rev
	read   bool // read reports that the records were read once.
	failed bool
	room   room

	absent map[string]time.Time // absent says since when a replica is not heard of. Run uses it.
}

type stored struct {
	shard
	rev store.Rev
}

// Node is one that is not connected.
type Node struct {
	ID       string
	Identity string
	// Since is when it left. It is zero if it has never been here.
	Since time.Time
	// Gone is false while its lease has not ended.
	Gone bool
	// Expected reports that the configuration names it.
	Expected bool
	Rings    map[string]string // Rings are the versions that it accepted last, by scope.
}

// New starts nothing.
func New(c Config) *Registry {
	return &Registry{
		cfg: c, tracker: newTracker(), started: time.Now(), shards: map[string]stored{}, absent: map[string]time.Time{},
	}
}

// Run keeps the records until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	for {
		every := min(lookEvery, max(r.cfg.Refresh, r.lease()/5))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
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
			r.cfg.Log.Warn("which nodes were here cannot be kept; trying again", "err", err, "every", every)
		case err == nil && before:
			r.cfg.Log.Info("which nodes were here is kept again")
		}
	}
}

// lease is how long a node may be away before it is gone.
func (r *Registry) lease() (d time.Duration) {
	for _, scope := range r.cfg.Fleet.Scopes() {
		if st, err := r.cfg.Fleet.Status(scope); err == nil {
			d = max(d, st.Policy.NodeLease)
		}
	}
	return d
}

// look reads what others have written, and writes what has changed here.
func (r *Registry) look(ctx context.Context) error {
	if err := r.refresh(ctx); err != nil {
		return err
	}
	now, err := r.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	here, left := r.tracker.take()
	p := r.plan(now, here, left)
	if len(p.shards) > 0 {
		err = r.write(ctx, p)
	}
	r.noteRoom(p)
	if err != nil {
		r.tracker.giveBack(left)
	}
	return err
}

// refresh reads the records that were changed.
func (r *Registry) refresh(ctx context.Context) error {
	r.mu.Lock()
	since := r.head
	r.mu.Unlock()
	keys, head, err := r.cfg.Store.Changed(ctx, store.KnownNodes.All(), since)
	if err != nil {
		return err
	}
	all := map[string]stored{}
	asked := r.cfg.Unsealed == nil
	for i, v := range store.GetAll(ctx, r.cfg.Store, keys) {
		if errors.Is(v.Err, store.ErrSealed) && !asked {
			if why := r.cfg.Unsealed(ctx); why != nil {
				return errors.Join(v.Err, why)
			}
			asked = true
		}
		s, err := decodeShard(v.Val)
		switch {
		case errors.Is(v.Err, store.ErrNotExist):
			v.Rev = 0
		case errors.Is(v.Err, store.ErrSealed), v.Err == nil && err != nil:
			// It is replaced. What it had is known again when these nodes come.
			s = shard{nodes: map[string]known{}}
			r.cfg.Log.Warn("a record of the nodes that were here cannot be read, and is begun anew", "key", keys[i],
				"err", cmp.Or(v.Err, err))
		case v.Err != nil:
			return v.Err
		}
		all[keys[i]] = stored{s, v.Rev}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(r.shards, all)
	r.head, r.read = head, true
	return nil
}

// write swaps the records of a plan. One that somebody else has changed is read at the next look,
// and what concerns it is planned again then.
func (r *Registry) write(ctx context.Context, p *plan) error {
	keys := slices.Sorted(maps.Keys(p.shards))
	var changes []store.Change
	for _, key := range keys {
		val, err := p.shards[key].encode()
		if err != nil {
			return err
		}
		changes = append(changes, store.Change{Key: key, Old: p.shards[key].rev, Val: val})
	}
	var failed error
	for i, o := range store.SwapAll(ctx, r.cfg.Store, changes) {
		key := keys[i]
		if o.Err != nil {
			r.tracker.giveBack(p.left[key])
			delete(p.dropped, key)
			if !errors.Is(o.Err, store.ErrConflict) {
				failed = o.Err
			} else if err := r.again(ctx, key); err != nil {
				failed = err
			}
			continue
		}
		r.mu.Lock()
		r.shards[key] = stored{p.shards[key].shard, o.Rev}
		r.mu.Unlock()
		for _, e := range p.events[key] {
			r.cfg.Record(e)
		}
	}
	return failed
}

// again notes that a store which has lost the record takes it as a new one. Another conflict needs
// nothing, since the next look reads what has changed.
func (r *Registry) again(ctx context.Context, key string) error {
	_, _, err := r.cfg.Store.Get(ctx, key)
	if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[key]
	s.rev = 0
	r.shards[key] = s
	return nil
}

// Gone returns the nodes that were here and are not, and those that are expected and are not, by
// their ids. A node that is connected to any replica is not among them.
func (r *Registry) Gone() (out []Node) {
	live := r.live()
	expected := map[string]bool{}
	for _, id := range r.cfg.Expected {
		expected[id] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shards {
		for id, k := range s.nodes {
			if k.Connected {
				live[id] = true
			}
			if live[id] || r.tracker.has(id) {
				continue
			}
			out = append(out, Node{id, k.Identity, k.At, k.Gone, expected[id], maps.Clone(k.Rings)})
			delete(expected, id)
		}
	}
	for id := range expected {
		if !live[id] && !r.tracker.has(id) {
			out = append(out, Node{ID: id, Expected: true})
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Count is how many nodes are gone, and how many that are expected are not here.
func (r *Registry) Count() (gone, missing int) {
	settled := r.settled()
	for _, n := range r.Gone() {
		if n.Gone {
			gone++
		}
		if n.Expected && settled {
			missing++
		}
	}
	return gone, missing
}

// settled reports that this replica has run for long enough that nodes could come.
func (r *Registry) settled() bool {
	r.mu.Lock()
	read := r.read
	r.mu.Unlock()
	return read && time.Since(r.started) > r.lease()
}

// live returns the nodes that a roster of any replica has as connected. Replicas of a version that
// does not keep these records have rosters, too.
func (r *Registry) live() map[string]bool {
	live := map[string]bool{}
	for _, scope := range r.cfg.Fleet.Scopes() {
		st, err := r.cfg.Fleet.Status(scope)
		if err != nil {
			continue
		}
		for _, m := range st.Members {
			if m.Connected && m.Live(st.Policy, st.Now) {
				live[m.Node] = true
			}
		}
	}
	return live
}

// maxNamed bounds the nodes that a sentence names.
const maxNamed = 10

// Problems says which nodes are missing, and which are gone for long.
func (r *Registry) Problems() (out []api.Problem) {
	var missing, gone []string
	settled, now := r.settled(), r.now()
	for _, n := range r.Gone() {
		switch {
		case n.Expected && settled && n.Since.IsZero():
			missing = append(missing, n.ID+" (never seen)")
		case n.Expected && settled:
			missing = append(missing, fmt.Sprintf("%s (since %s)", n.ID, n.Since.UTC().Format(time.RFC3339)))
		case n.Gone && !n.Expected && now.Sub(n.Since) > longGone:
			gone = append(gone, n.ID)
		}
	}
	say := func(code, text string, names []string) {
		if len(names) > 0 {
			p := problems.New(code, "", fmt.Sprintf(text, len(names), few(names)))
			p.Count = len(names)
			out = append(out, p)
		}
	}
	say(problems.NodeMissing, "%d expected nodes are not connected: %s", missing)
	say(problems.NodeGone, "%d nodes that were here are gone: %s", gone)
	return append(out, r.ofRoom()...)
}

func few(names []string) string {
	more := len(names) - maxNamed
	if more <= 0 {
		return fmt.Sprint(names)
	}
	return fmt.Sprintf("%v and %d more", names[:maxNamed], more)
}

// now is the store's clock, as the coordinator knows it.
func (r *Registry) now() time.Time {
	for _, scope := range r.cfg.Fleet.Scopes() {
		if st, err := r.cfg.Fleet.Status(scope); err == nil {
			return st.Now
		}
	}
	return time.Now()
}

// These are refusals of Forget.
var (
	// ErrLive says that the node is connected, or has not been away for as long as its lease.
	ErrLive = errors.New("is not gone")
	// ErrUnknown says that no such node was here.
	ErrUnknown = fmt.Errorf("was not here within %d days: %w", rememberFor/24/time.Hour, keysource.ErrNotExist)
)

// Forget takes a gone node off the records.
func (r *Registry) Forget(ctx context.Context, id string) error {
	key := shardOf(id)
	for range maxTries {
		val, rev, err := r.cfg.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("node %s was not forgotten: %w", id, err)
		}
		s, err := decodeShard(val)
		if err != nil {
			return fmt.Errorf("node %s was not forgotten: its record cannot be read: %w", id, err)
		}
		k, there := s.nodes[id]
		switch {
		case r.tracker.has(id) || r.live()[id] || there && k.Connected:
			return fmt.Errorf("node %s %w: it is connected", id, ErrLive)
		case !there:
			return fmt.Errorf("node %s %w", id, ErrUnknown)
		case !k.Gone:
			return fmt.Errorf("node %s %w: it went away at %s, and rotations wait for it (lockstep exclude)",
				id, ErrLive, k.At.UTC().Format(time.RFC3339))
		}
		delete(s.nodes, id)
		if val, err = s.encode(); err != nil {
			return err
		}
		rev, err = r.cfg.Store.Swap(ctx, key, rev, val)
		switch {
		case errors.Is(err, store.ErrConflict):
			continue
		case err != nil:
			return fmt.Errorf("node %s: it is not known whether it was forgotten, try again: %w", id, err)
		}
		r.mu.Lock()
		r.shards[key] = stored{s, rev}
		r.mu.Unlock()
		return nil
	}
	return fmt.Errorf("node %s was not forgotten: %w %d times; try again", id, store.ErrConflict, maxTries)
}

// maxTries bounds how often a change starts again because somebody else was first.
const maxTries = 10
