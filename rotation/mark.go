package rotation

import (
	"errors"
	"fmt"
	"time"
)

// Marks keep, for each scope, the highest generation that this replica has ever sent, outside the store: they tell a store that was put
// back to an earlier day from one that is as it was. Raise is called before a generation is sent; neither method blocks for long. Where a mark cannot
// be written, the next one may be missing, and nothing else happens. Highest is at most 2^52.
type Marks interface {
	Highest(scope string) uint64
	Raise(scope string, generation uint64)
}

// ErrPutBack: the store holds an older ring than this replica has sent before. It is not served.
var ErrPutBack = errors.New("older than what was sent before")

// patience is how long a replica without memory waits for one that still has the newer ring, and writes it back.
const patience = silentFor

// putBack looks, before anything was sent since the start, whether the store was put back. Then it is an error for a while; after that, every key is
// replaced: what the older ring holds may have been burnt since, and no live ticket can be told from a stolen one.
func (s *scope) putBack(v *view) (burn bool, err error) {
	if s.cfg.Marks == nil {
		return false, nil
	}
	mark := s.cfg.Marks.Highest(s.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring != nil || v.r.Generation >= mark {
		s.missing = time.Time{}
		return false, nil
	}
	if s.missing.IsZero() {
		s.missing = v.now
		s.open()
	}
	left := patience - v.now.Sub(s.missing)
	if left > 0 {
		return false, fmt.Errorf("the stored ring of scope %s (g%d) is %w (g%d): the store has lost writes or was put back; nodes keep what they hold; "+
			"in %s, unless another replica writes the newer ring back, every key is replaced", s.name, v.r.Generation, ErrPutBack, mark, left.Round(time.Second))
	}
	v.r = v.r.clone()
	v.r.Generation = mark
	return true, nil
}
