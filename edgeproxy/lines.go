package edgeproxy

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Strangers can cause some lines of the log as often as they like. There are atFirst of these at
// once, and then one each ten seconds.
const (
	atFirst  = 20
	oftenest = rate.Limit(0.1)
)

// lines limits lines of the log.
type lines struct {
	mu      sync.Mutex
	rate    *rate.Limiter
	leftOut int // leftOut counts what had no line since the last one.
}

func newLines() *lines { return &lines{rate: rate.NewLimiter(oftenest, atFirst)} }

// next reports whether there may be a line now, and how many there could not be before it.
func (l *lines) next(now time.Time) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.rate.AllowN(now, 1) {
		l.leftOut++
		return 0, false
	}
	leftOut, l.leftOut = l.leftOut, 0
	return leftOut, true
}
