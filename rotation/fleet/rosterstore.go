package fleet

import (
	"context"
	"errors"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// ringKey is ring/<scope>. It holds the rollout.
func (s *scope) ringKey() string { return store.Rings.Key(s.name) }

// rosterKey is roster/<scope>/<replica>. It holds a roster.
func (s *scope) rosterKey() string { return store.Rosters.Key(s.name, s.cfg.Replica) }

// resume reads the roster that the replica wrote before it stopped, if that was not done yet.
func (t *turn) resume(ctx context.Context) error {
	if t.resumed {
		return nil
	}
	now, err := t.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	r, _, err := readRoster(ctx, t.cfg.Store, t.rosterKey())
	switch {
	case errors.Is(err, errRoster):
		t.cfg.Log.Error("what this replica had stored of its nodes cannot be read: "+
			"until they are back, or their leases have ended, nothing is concluded",
			"scope", t.name, "key", t.rosterKey(), "err", err)
		r = rosterRecord{Peer{At: now}, []rotation.Member{unknownNodes(t.cfg.Replica, now, false)}}
	case err != nil && !errors.Is(err, store.ErrNotExist):
		return err
	}
	if !errors.Is(err, store.ErrNotExist) {
		t.rosterAtStart = r.encode()
		t.othersRead = r.peer.At
	}
	t.mu.Lock()
	t.roster.resume(r.members, now)
	t.mu.Unlock()
	t.resumed = true
	return nil
}

// storeIfDue writes the roster if somebody joined, or if it is time.
func (s *scope) storeIfDue(ctx context.Context, must bool) error {
	s.mu.Lock()
	age := s.clock().Sub(s.stored)
	setBack := age < -flushAfter // the store's clock was set back
	// The other replicas may be waiting for this roster.
	complete := s.cfg.Shared && s.rollout.Phase != rotation.Steady && len(s.late) == 0
	due := must || s.rewrite || setBack || s.roster.dirty && (age >= flushAfter || complete) ||
		(s.cfg.Shared || len(s.roster.members) > 0) && age >= heartbeat
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.saveRoster(ctx)
}

func (s *scope) saveRoster(ctx context.Context) error {
	s.mu.Lock()
	s.saving = s.roster.list(s.saving[:0], true)
	now := s.clock()
	rewrite := s.rewrite
	s.roster.dirty, s.rewrite = false, false
	s.mu.Unlock()
	self := Peer{Replica: s.cfg.Replica, Admin: s.cfg.Self.Admin, Alone: s.cfg.Self.Alone, At: now}
	val, summed := rosterRecord{self, s.saving}.bounded()
	err := s.put(ctx, s.rosterKey(), val)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.summed, s.failed = summed, err != nil
	if err != nil {
		s.roster.dirty, s.rewrite = true, s.rewrite || rewrite
		return err
	}
	s.stored = now
	return nil
}

// leave writes the roster a last time, so that the next start knows what the nodes hold.
func (s *scope) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	s.mu.Lock()
	dirty := s.roster.dirty
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := s.resume(ctx); err != nil {
		return err
	}
	return s.saveRoster(ctx)
}

// readRoster reads one replica's record. The error wraps errRoster if it is there and cannot be
// read.
func readRoster(ctx context.Context, s store.Store, key string) (rosterRecord, store.Rev, error) {
	val, rev, err := s.Get(ctx, key)
	if errors.Is(err, store.ErrSealed) {
		return rosterRecord{}, rev, errors.Join(errRoster, err)
	}
	if err != nil {
		return rosterRecord{}, 0, err
	}
	r, err := decodeRoster(val)
	return r, rev, err
}

// put writes a value that only this replica writes, over whatever is there.
func (s *scope) put(ctx context.Context, key string, val []byte) error {
	for {
		_, rev, err := s.cfg.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed) {
			return err
		}
		if _, err = s.cfg.Store.Swap(ctx, key, rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
