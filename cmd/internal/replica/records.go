package replica

import (
	"context"
	"errors"
	"time"

	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store"
)

// unreadable is a record that cannot be read, and since when, by the store's clock.
type unreadable struct {
	rev   store.Rev
	since time.Time
}

// readAll reads the records. While one cannot be read, what it said before counts. If no record
// opens, since this replica has an earlier sealing key, that is an error.
func (r *Registry) readAll(ctx context.Context, peers []fleet.Peer, now time.Time) error {
	keys, err := r.keys(ctx, peers)
	if err != nil {
		return err
	}
	all, unread := map[string]record{}, map[string]unreadable{}
	asked := false
	for i, v := range store.GetAll(ctx, r.cfg.Store, keys) {
		name, err := store.Segment(keys[i])
		if err != nil || errors.Is(v.Err, store.ErrNotExist) {
			continue
		}
		sealed := errors.Is(v.Err, store.ErrSealed)
		if v.Err != nil && !sealed {
			return v.Err
		}
		rec, err := decode(v.Val)
		if !sealed && err == nil {
			all[name] = rec
			continue
		}
		if sealed && !asked && r.cfg.Unsealed != nil {
			if why := r.cfg.Unsealed(ctx); why != nil {
				return errors.Join(v.Err, why)
			}
			asked = true
		}
		if before, known := r.records[name]; known { // it writes another soon, if it runs
			all[name] = before
		}
		if unread[name] = r.unread[name]; unread[name].rev != v.Rev {
			unread[name] = unreadable{v.Rev, now}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	local := time.Now()
	if own, known := all[r.cfg.Replica]; known {
		r.recognize(own, local)
	}
	r.offset, r.looked, r.records, r.unread = now.Sub(local), local, all, unread
	return nil
}

// keys are those of the records that are read. This replica and those that are alive come first.
func (r *Registry) keys(ctx context.Context, peers []fleet.Peer) ([]string, error) {
	keys := []string{keyOf(r.cfg.Replica)}
	first := map[string]bool{keys[0]: true}
	for _, p := range peers {
		if key := keyOf(p.Replica); len(keys) < maxKnown && !first[key] {
			keys, first[key] = append(keys, key), true
		}
	}
	for key, err := range r.cfg.Store.Keys(ctx, store.Replicas.All()) {
		if err != nil {
			return nil, err
		}
		if len(keys) == maxKnown {
			break
		}
		if !first[key] {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// due reports whether this replica is to write its record now.
func (r *Registry) due(now, local time.Time) bool {
	if !r.ready() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	own, known := r.records[r.cfg.Replica]
	_, unread := r.unread[r.cfg.Replica]
	return !known || unread || own.Run != r.run || own.Version != r.cfg.Version || own.Stopped ||
		own.Started.Sub(r.started(now, local)).Abs() > slack ||
		own.Mixed.Sub(r.mixed.stored(r.offset)).Abs() > slack ||
		now.Sub(own.At) >= writeEvery || own.At.After(now)
}

// write writes this replica's record, over whatever is there.
func (r *Registry) write(ctx context.Context, now time.Time, stopped bool) error {
	key := keyOf(r.cfg.Replica)
	for {
		val, rev, err := r.cfg.Store.Get(ctx, key)
		switch {
		case err == nil, errors.Is(err, store.ErrNotExist):
		case !errors.Is(err, store.ErrSealed):
			return err
		case r.cfg.Unsealed != nil:
			if why := r.cfg.Unsealed(ctx); why != nil {
				return errors.Join(err, why)
			}
		}
		rec, _ := decode(val) // one that cannot be read is replaced
		rec.Version, rec.At, rec.Stopped = r.cfg.Version, now, stopped
		rec.Started, rec.Run, rec.Admin = r.started(now, time.Now()), r.run, r.cfg.Admin
		r.mu.Lock()
		rec.Mixed = r.mixed.stored(r.offset)
		r.mu.Unlock()
		if val, err = rec.encode(); err != nil {
			return err
		}
		if _, err = r.cfg.Store.Swap(ctx, key, rev, val); errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			r.wrote = rec
			r.mu.Lock()
			r.records[r.cfg.Replica] = rec
			r.mu.Unlock()
		}
		return err
	}
}

// leave says that this replica stops on purpose. If it has never said that it is here, there is
// nothing to say.
func (r *Registry) leave() {
	r.mu.Lock()
	_, known := r.records[r.cfg.Replica]
	r.mu.Unlock()
	if !known && !r.ready() {
		return
	}
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

// forget deletes the records of replicas that were not here for a day, and those that nobody could
// read for a day. It does not matter which replica does, nor when.
func (r *Registry) forget(ctx context.Context, now time.Time) {
	ended, spoilt := map[string]bool{}, map[string]store.Rev{}
	r.mu.Lock()
	for name, rec := range r.records {
		if name != r.cfg.Replica && !r.heard[name].alive && now.Sub(rec.At) > forgetAfter {
			ended[name] = true
		}
	}
	for name, u := range r.unread {
		if name != r.cfg.Replica && !r.heard[name].alive && now.Sub(u.since) > forgetAfter {
			spoilt[name] = u.rev
		}
	}
	r.mu.Unlock()
	for name := range ended {
		val, rev, err := r.cfg.Store.Get(ctx, keyOf(name))
		if rec, bad := decode(val); err == nil && bad == nil && now.Sub(rec.At) > forgetAfter {
			_, _ = r.cfg.Store.Swap(ctx, keyOf(name), rev, nil) // the next look tries again
		}
	}
	for name, rev := range spoilt {
		_, _ = r.cfg.Store.Swap(ctx, keyOf(name), rev, nil)
	}
}
