package fleet

import (
	"context"
	"fmt"
	"time"
)

// findPutBack looks, before anything was sent since the start, whether the store was put back to
// an earlier day. Then it is an error for a while. After that every key is replaced, since what
// the older ring holds may have been burnt meanwhile, and no live ticket can be
// distinguished from a stolen one.
func (t *turn) findPutBack(_ context.Context, a *attempt) error {
	if t.cfg.HighestSent == nil {
		return nil
	}
	highest := t.cfg.HighestSent.Highest(t.name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ring != nil || a.r.Generation >= highest {
		t.putBackSince = time.Time{}
		return nil
	}
	if t.putBackSince.IsZero() {
		t.putBackSince = a.now
		t.open()
	}
	if left := writeBackWithin - a.now.Sub(t.putBackSince); left > 0 {
		return fmt.Errorf("the stored ring of scope %s (g%d) is %w (g%d): the store has lost writes or was put back; "+
			"nodes keep what they hold; "+
			"in %s, unless another replica writes the newer ring back, every key is replaced",
			t.name, a.r.Generation, errPutBack, highest, left.Round(time.Second))
	}
	a.r.Generation, a.burn = highest, true
	return nil
}
