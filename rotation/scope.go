package rotation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lockstep-tls/lockstep/keysource"
)

const (
	heartbeat  = 10 * time.Second      // a roster is written at least so often while somebody is on it
	silentFor  = 3 * heartbeat         // a replica whose roster is older than this is dead, and its nodes away
	deafAfter  = heartbeat * 3 / 2     // who has read and written the store no longer ago has missed nothing; either is due after a heartbeat at the latest
	flushAfter = time.Second           // acceptances that nobody waits for are written no more often than this; joins cannot wait
	gather     = 50 * time.Millisecond // between two looks that let somebody in: a fleet that comes at once is written down together
	retryAfter = time.Second           // after a failed look at the store
	lookWithin = 10 * time.Second      // one look: a store that hangs is a store that is down
)

// scope carries one rollout. run's goroutine reads and writes the store; turn keeps commands from swapping under its feet; mu guards
// what streams touch.
type scope struct {
	name   string
	policy Policy
	cfg    Config
	wake   chan struct{} // capacity 1
	open   func()        // called once the ring is known, or known to be missing

	turn     chan struct{}   // capacity 1; full while somebody reads the rollout and swaps it; before mu
	joined   bool            // the others can know of this replica, and none objects; with turn
	earlier  []byte          // its roster as it stood when the replica started; nil: there was none; with turn
	restored bool            // the roster that the replica had before it stopped was read; with turn
	unsure   bool            // the last swap failed, or it did not; with turn
	off      bool            // the clock was too far off at the last look; with turn
	missing  time.Time       // since when the store is known to be older than Marks; zero: it is not
	broken   time.Time       // since when the ring's record is damaged; zero: it is not; with turn
	known    known           // with turn
	settled  settled         // see Tally.Reached; with turn
	proved   time.Time       // see Tally.Proved; with turn
	dark     map[string]dark // by store key; with turn
	listened time.Time       // when the others' rosters were read last; with turn
	listens  time.Time       // since when they have been read without a gap; with turn
	recorded recorded        // with turn
	members  []Member        // room for what read reads; with turn
	saving   []Member        // room for what saveRoster writes; run's

	strays rate.Sometimes // log lines about first refusals: any client can provoke them

	mu      sync.Mutex
	roster  *roster
	rollout Rollout         // as last read or written
	ring    *keysource.Ring // of rollout; nil until the first read
	others  others          // as last read
	unread  []string        // rosters of other replicas that cannot be read, and why
	late    map[*entry]bool // ours that the phase waits for
	waited  []string        // all that it waits for
	offset  time.Duration   // the store's clock less ours
	err     error           // of the last look at the store
	stored  time.Time       // when our roster was written last; zero: never
	rewrite bool            // the stored roster may be lost: write it anew, however young it is
	failed  bool            // our roster could not be written at the last try
}

// known is the rollout that a value decodes to: while that stands it need not be decoded again. A revision says less: one who writes past the store's driver, or
// brings a part of it back, changes a value without it.
type known struct {
	val []byte
	r   Rollout
}

func newScope(name string, p Policy, c Config, ready func()) *scope {
	return &scope{
		name: name, policy: p, cfg: c, open: sync.OnceFunc(ready),
		strays: rate.Sometimes{First: 10, Interval: time.Minute},
		wake:   make(chan struct{}, 1), turn: make(chan struct{}, 1), roster: newRoster(), late: map[*entry]bool{},
	}
}

func (s *scope) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// clock is the store's clock as of the last look. The caller holds mu.
func (s *scope) clock() time.Time { return s.cfg.Clock().Add(s.offset) }

func (s *scope) held() keysource.Ring {
	if s.ring == nil {
		return keysource.Ring{}
	}
	return *s.ring
}

// caughtUp takes e off the list of those that the phase waits for, if it has reached the target, and reports whether it was the last of ours.
func (s *scope) caughtUp(e *entry) bool {
	if !s.late[e] || e.Floor < s.rollout.target() {
		return false
	}
	delete(s.late, e)
	return len(s.late) == 0
}

// tallied counts into the room of ms. The caller holds mu.
func (s *scope) tallied(ms []Member) Tally {
	t := Tally{Members: s.roster.list(ms, false), Highest: s.roster.highest, Waited: s.waited}
	if len(s.others.lists) > 0 {
		t.Members = union(slices.Concat([]heard{{s.clock(), t.Members}}, s.others.lists)...)
	}
	return t
}

func (s *scope) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.leave()
		case <-s.wake:
		case <-timer.C:
		}
		joined, wait, err := s.look(ctx)
		if ctx.Err() != nil {
			return s.leave()
		}
		s.report(err)
		if errors.Is(err, ErrAlone) {
			return err
		}
		if joined > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(gather):
			}
		}
		timer.Reset(wait)
	}
}

// report keeps the outcome of a look, and tells when it is another than before.
func (s *scope) report(err error) {
	s.mu.Lock()
	before := s.err
	s.err = err
	s.mu.Unlock()
	switch {
	case refused(err):
		if !refused(before) {
			s.cfg.Log.Error("changes are not made; what is published goes on being served", "scope", s.name, "err", err)
		}
	case err == nil && refused(before):
		s.cfg.Log.Info("changes are made again", "scope", s.name)
	case err != nil && before == nil:
		s.cfg.Log.Error("the store cannot be used; what is published goes on being served", "scope", s.name, "err", err)
	case err == nil && before != nil:
		s.cfg.Log.Info("the store can be used again", "scope", s.name)
	}
}

// look is one turn: write down who asked, read the ring again, decide, let them in. The order is what makes a joining node safe: a
// decision that did not see it began with a ring that was read before it was written down. That decision leads to the next ring at most, and
// whoever holds the one before is no harm to it ([Rollout.Next]); it is sent the ring that is read after, or a later one.
// It returns how many were let in, and how long nothing will be due.
func (s *scope) look(ctx context.Context) (joined int, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	if err := s.restore(ctx); err != nil {
		return 0, retryAfter, err
	}
	s.mu.Lock()
	serving := s.ring != nil
	asked := s.roster.letIn(s.held().Generation, s.clock())
	s.mu.Unlock()
	err = s.store(ctx, len(asked) > 0)
	var v view
	if err == nil {
		v, err = s.decide(ctx, nil)
	}
	if errors.Is(err, ErrAlone) {
		return 0, 0, err
	}
	if err != nil && (s.cfg.Shared && !refused(err) || !serving) {
		s.askAgain(asked)
		return 0, retryAfter, err
	}
	s.admit(asked)
	if err != nil {
		return len(asked), retryAfter, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.expire(s.policy, v.now)
	wait = s.cfg.Refresh
	if s.cfg.Shared {
		wait = min(wait, max(heartbeat-s.clock().Sub(s.stored), time.Millisecond))
	}
	if !v.due.IsZero() {
		wait = min(wait, max(v.due.Sub(v.now), time.Millisecond))
	}
	if s.roster.dirty {
		wait = min(wait, flushAfter)
	}
	return len(asked), wait, nil
}

func (s *scope) askAgain(asked []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range asked {
		e.asked = !e.ready
	}
}

// admit lets those in that stand in the stored roster, now that the ring was read after it.
func (s *scope) admit(asked []*entry) {
	if len(asked) == 0 {
		return
	}
	streams := make([]uint64, 0, len(asked))
	s.mu.Lock()
	for _, e := range asked {
		e.ready = true
		if e.Connected {
			streams = append(streams, e.Stream)
		}
	}
	s.mu.Unlock()
	s.cfg.Wake(s.name, streams)
}
