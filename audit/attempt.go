package audit

import (
	"context"
	"sync"
	"time"
)

// attempt is a write to one sink. The sink may take the lines after the write was given up.
type attempt struct {
	sink *bounded

	mu       sync.Mutex
	told     Gap  // told is what the lines say that the sink lacks.
	landed   bool // landed means that the sink has the lines.
	reported bool // reported means that nobody waits for it any more.
	missed   int  // missed is how many of its lines count as missing.
}

// recaller is a sink that may have taken the lines of its last write, though that write failed.
// recall finds out. It has the rules of write.
type recaller interface {
	recall(ctx context.Context, keys *keys) (landed Head, err error)
}

// try writes b to the sink of a, with a line before it if the sink lacks lines by then.
func (l *Log) try(ctx context.Context, a *attempt, b batch, at time.Time) ([]Head, error) {
	s := a.sink
	return s.use(ctx, func(ctx context.Context) ([]Head, error) {
		if k, ok := s.sink.(recaller); ok && s.last != nil {
			h, err := k.recall(ctx, b.keys)
			if err != nil {
				return nil, err
			}
			if !h.IsZero() {
				l.marks.see(h)
				l.land(s.last)
			}
			s.last = nil
		}
		told := l.marks.gap(s.chain)
		if !told.IsZero() {
			b = b.put(told.entry(at))
		}
		if len(b.entries) == 0 {
			return nil, nil // what was missing has come
		}
		a.mu.Lock()
		a.told = told
		a.mu.Unlock()
		s.last = a
		heads, err := s.sink.write(ctx, b)
		if err == nil {
			s.last = nil
			l.marks.see(heads[len(heads)-1])
			l.land(a)
		}
		return heads, err
	})
}

// land notes that the sink has the lines of a. The user of the sink calls it. So no line tells
// again of a gap that a told of.
func (l *Log) land(a *attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.landed = true
	l.marks.fill(a.sink.chain, a.told)
	l.marks.fill(a.sink.chain, Gap{Lines: a.missed})
	if a.reported {
		l.report(a.sink.name, nil, a.told)
	}
}

// settle notes what has become of a by now, with n lines of which another sink took each or none
// did. Lines that no sink took in time count as such for ever, since what they name was not done.
func (l *Log) settle(a *attempt, at time.Time, n int, taken bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reported = true
	chain := a.sink.chain
	switch {
	case err == nil:
		l.report(a.sink.name, nil, a.told)
		return
	case !taken:
		l.marks.miss(chain, at, 0, n, err)
	case !a.landed:
		l.marks.miss(chain, at, n, 0, err)
		a.missed = n
	}
	l.report(a.sink.name, err, Gap{})
	if a.landed { // between its time and now
		l.report(a.sink.name, nil, a.told)
	}
}
