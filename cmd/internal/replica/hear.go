package replica

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/rotation/fleet"
)

// heard is what the rosters said of a replica.
type heard struct {
	first, at time.Time // by the store's clock
	alive     bool
	// lost is since when it is not heard of any more, by this machine's clock.
	lost  time.Time
	admin string
}

// missing reports whether the replica was not heard of for long, at the last look that succeeded.
func (h heard) missing(looked time.Time) bool {
	return !h.alive && !h.lost.IsZero() && looked.Sub(h.lost) >= missingAfter
}

// silence is since when a replica that is alive does not answer, and what happened at the last try.
type silence struct {
	since, last time.Time
	err         error
}

// interrupted notes that it is not known who is alive. Nobody's silence counts from before that,
// unless the replica was missing by then.
func (r *Registry) interrupted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for name, h := range r.heard {
		if !h.lost.IsZero() && !h.missing(r.looked) {
			h.lost = now
			r.heard[name] = h
		}
	}
	if !r.mixed.since.IsZero() {
		r.mixed.last = now
	}
}

// hear notes which replicas are alive, and since when others are not.
func (r *Registry) hear(peers []fleet.Peer, now, local time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	alive := map[string]bool{}
	for _, p := range peers {
		alive[p.Replica] = true
	}
	for _, p := range peers {
		h, known := r.heard[p.Replica]
		if !known {
			if len(r.heard) >= maxKnown && !r.makeRoom(alive) {
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
	// Nobody looks again at one that comes back, so what is known of it stays while there is room.
	maps.DeleteFunc(r.elsewhere, func(name string, _ string) bool {
		_, known := r.heard[name]
		return !known && len(r.elsewhere) > maxKnown
	})
}

// makeRoom forgets the replica that was lost first. It reports whether there was one.
func (r *Registry) makeRoom(alive map[string]bool) bool {
	names := slices.DeleteFunc(slices.Collect(maps.Keys(r.heard)), func(name string) bool {
		return alive[name] || r.heard[name].lost.IsZero()
	})
	if len(names) == 0 {
		return false
	}
	delete(r.heard, slices.MinFunc(names, func(a, b string) int {
		return cmp.Or(r.heard[a].lost.Compare(r.heard[b].lost), r.heard[a].at.Compare(r.heard[b].at), cmp.Compare(a, b))
	}))
	return true
}

// ask asks those that are alive and have an address whether they answer.
func (r *Registry) ask(ctx context.Context, peers []fleet.Peer) {
	within, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range peers {
		if p.Admin == "" {
			continue
		}
		all.Go(func() {
			began := time.Now()
			_, err := r.cfg.Ask.Mute(within, p)
			r.mu.Lock()
			defer r.mu.Unlock()
			if err == nil {
				delete(r.silent, p.Replica)
				return
			}
			if ctx.Err() != nil { // this replica stops
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
