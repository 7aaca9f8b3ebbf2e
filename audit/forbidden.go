package audit

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How much those who ask for what they may not have can make us write.
const (
	strangerBurst = 8                // lines of one identity at once,
	strangerEvery = 10 * time.Second // and one in so long
	everyBurst    = maxBatch         // of all together,
	everyoneEvery = 250 * time.Millisecond
	maxStrangers  = 4096 // identities that are told apart
)

// strangers gathers what was forbidden until it is written.
type strangers struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	by      map[string]*stranger
	all     *rate.Limiter
	waiting []Entry // at most maxBatch
}

type stranger struct {
	limit  *rate.Limiter
	untold int // since its last line
}

func (s *strangers) init() {
	s.wake = make(chan struct{}, 1)
	s.by = map[string]*stranger{}
	s.all = rate.NewLimiter(rate.Every(everyoneEvery), everyBurst)
}

// Forbidden notes that an identity asked for what it may not have; see [Log.Refused].
func (l *Log) Forbidden(identity, what string) {
	l.Refused(identity, Entry{Actor: identity, What: "forbidden", Name: what})
}

// Refused notes something that was refused. It never blocks, since [Log.Run] writes the line. If
// an identity does so often in a short time, some are left out, and its next line says for how many
// it stands. The entry's actor may be more than the identity that was proved.
func (l *Log) Refused(identity string, e Entry) {
	s := &l.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.by[identity]
	if who == nil {
		if len(s.by) >= maxStrangers {
			clear(s.by)
		}
		who = &stranger{limit: rate.NewLimiter(rate.Every(strangerEvery), strangerBurst)}
		s.by[identity] = who
	}
	who.untold++
	if len(s.waiting) >= maxBatch || !who.limit.Allow() || !s.all.Allow() {
		return
	}
	if who.untold > 1 {
		e.Times = who.untold
	}
	who.untold = 0
	s.waiting = append(s.waiting, e)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (l *Log) writeForbidden(ctx context.Context) {
	s := &l.strangers
	s.mu.Lock()
	entries := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	if len(entries) == 0 {
		return
	}
	if _, err := l.Append(ctx, entries...); err != nil {
		l.cfg.Log.Warn("what was forbidden could not be written into the audit log",
			"lines", len(entries), "first", entries[0].Actor, "err", err)
	}
}
