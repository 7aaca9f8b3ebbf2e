package redis

import "sync"

// past tells what the data that Redis has now says from what earlier data said, some of which may
// be lost. The zero value has no past. Safe for concurrent use.
type past struct {
	mu      sync.Mutex
	history string // of the latest answer
	seen    uint64 // the highest revision that this process knows of
	mark    uint64 // revisions up to here may be of an earlier history
}

// note takes an answer in, and says whether it is of another history than the one before. Answers
// of two histories may come mixed: then each counts as new.
func (p *past) note(history string, rev uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.history != "" && history != p.history
	if changed {
		p.mark = p.seen
	}
	p.history, p.seen = history, max(p.seen, rev)
	return changed
}

// end makes all that was seen so far the past.
func (p *past) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mark = p.seen
}

// before says whether rev may be of an earlier history. A revision that Redis has not reached, its
// highest being head, is.
func (p *past) before(rev, head uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rev > head {
		p.seen = max(p.seen, rev)
		p.mark = p.seen
	}
	return rev <= p.mark
}

// floor is the revision above which new ones are to be.
func (p *past) floor() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}
