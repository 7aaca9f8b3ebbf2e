package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// scope carries one rollout. The goroutine of loop reads and writes the store. The turn keeps
// commands from swapping between its reading and its writing. mu guards what streams touch, and is
// taken after the turn.
type scope struct {
	name  string
	cfg   Config
	wake  chan struct{} // wake has capacity 1.
	open  func()        // open is called once the ring is known, or known to be missing.
	turns chan *turn    // turns has capacity 1. It is empty while somebody has the turn.

	// firstRefusals bounds the log lines, since any client can provoke them.
	firstRefusals rate.Sometimes
	crowdedOut    rate.Sometimes // crowdedOut does so, too.
	// saving is room for what saveRoster writes. It belongs to loop's goroutine.
	saving []rotation.Member

	mu     sync.Mutex
	policy rotation.Policy // policy is in force. A decision goes by the one at its beginning.
	// told is how long the tickets of this replica's nodes are good for. It is 0 if no node was
	// told, and less than the policy says while a longer one is not in the store.
	told time.Duration
	// inForce are the lifetimes at all replicas, as last read.
	inForce map[string]time.Duration
	roster  *roster
	rollout rotation.Rollout // rollout is as last read or written.
	ring    *keysource.Ring  // ring is that of rollout. It is nil until the first read.
	others  others           // others is as last read.
	// unreadable names rosters of other replicas that cannot be read, and why.
	unreadable []string
	late       map[*entry]bool // late are this replica's nodes that the phase waits for.
	waited     []string        // waited names all that the phase waits for.
	offset     time.Duration   // offset is the store's clock less this machine's.
	err        error           // err is that of the last look at the store.
	// stored is when this replica's roster was written last; zero if it never was.
	stored time.Time
	// rewrite says that the stored roster may be lost: write it, however new it is.
	rewrite bool
	summed  int  // summed is how many nodes have no entry of their own in the stored roster.
	failed  bool // failed says that the roster could not be written at the last try.
}

func newScope(name string, p rotation.Policy, c Config, ready func()) *scope {
	s := &scope{
		name: name, policy: p, cfg: c, open: sync.OnceFunc(ready),
		firstRefusals: rate.Sometimes{First: 10, Interval: time.Minute},
		crowdedOut:    rate.Sometimes{First: 3, Interval: time.Minute},
		wake:          make(chan struct{}, 1), turns: make(chan *turn, 1), roster: newRoster(), late: map[*entry]bool{},
	}
	s.turns <- &turn{scope: s}
	return s
}

func (s *scope) lookSoon() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// clock returns the store's time, as of the last look. The caller holds mu.
func (s *scope) clock() time.Time { return s.cfg.Clock().Add(s.offset) }

func (s *scope) held() keysource.Ring {
	if s.ring == nil {
		return keysource.Ring{}
	}
	return *s.ring
}

// reachedTarget takes e off the nodes that the phase waits for, if e has reached the target. It
// reports whether e was the last of this replica's. The caller holds mu.
func (s *scope) reachedTarget(e *entry) bool {
	if !s.late[e] || e.Floor < s.rollout.Target() {
		return false
	}
	delete(s.late, e)
	return len(s.late) == 0
}

// tally counts the nodes of all replicas, and uses the room of ms. The caller holds mu.
func (s *scope) tally(ms []rotation.Member) rotation.Tally {
	t := rotation.Tally{Members: s.roster.list(ms, false), Highest: s.roster.highest, Waited: s.waited}
	if len(s.others.lists) > 0 {
		t.Members = union(slices.Concat([]heard{{s.clock(), t.Members}}, s.others.lists)...)
	}
	return t
}

func (s *scope) loop(ctx context.Context) error {
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
		if errors.Is(err, errAlone) {
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

// report keeps the outcome of a look, and logs it when it is another than before.
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

// look writes down who asked, reads the ring again, decides, and lets in who asked. It returns how
// many were let in, and how long nothing will be due.
//
// The order is what makes a joining node safe. A decision that did not see the node began with a
// ring that was read before the node was written down. That decision leads to the next ring at
// most, and who holds the ring before is no harm to it ([rotation.Rollout.Next]). The node is sent
// the ring that is read after, or a later one.
func (s *scope) look(ctx context.Context) (joined int, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	if err := s.resume(ctx); err != nil {
		return 0, retryAfter, err
	}
	s.mu.Lock()
	serving := s.ring != nil
	s.roster.enterCrowded(s.held(), s.clock())
	asked := s.roster.letIn(s.held().Generation, s.clock())
	s.mu.Unlock()
	err = s.storeIfDue(ctx, len(asked) > 0)
	var v view
	if err == nil {
		v, err = s.decide(ctx, nil)
	}
	if errors.Is(err, errAlone) {
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
	s.roster.expire(v.p, v.now)
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

// askAgain has those that were not let in asked about at the next look.
func (s *scope) askAgain(asked []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range asked {
		e.asked = !e.ready
	}
}

// admit lets those in that stand in the stored roster, now that the ring was read after it was
// written.
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
