package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxBatch bounds the entries that are written in one go. With maxLine it bounds a record of the
// store, of which NATS takes 1 MiB.
const maxBatch = 32

// call is one Append that waits.
type call struct {
	entries []Entry
	done    chan struct{} // closed when head and err are set
	head    Head
	err     error
}

// Append writes the entries to every sink, one line each and next to each other. It returns the
// head of the last line: that of the shared chain, or of the next sink if the shared chain could
// not be written. One sink that took the lines is enough. The others are counted, and named by
// [Log.Degraded].
//
// If no sink took them, or ctx ends first, the error wraps [ErrUnwritten], and the change must
// not be made. A line may be there nevertheless. Calls that come while others are being written
// are written together.
func (l *Log) Append(ctx context.Context, entries ...Entry) (Head, error) {
	if len(entries) == 0 || len(entries) > maxBatch {
		return Head{}, fmt.Errorf("audit: %d entries in one call; it takes 1 to %d", len(entries), maxBatch)
	}
	c := &call{entries: slices.Clone(entries), done: make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, c)
	l.mu.Unlock()
	select {
	case l.turn <- struct{}{}: // nobody is writing: write all that waits
		defer func() { <-l.turn }()
		for !c.isDone() {
			l.write(context.WithoutCancel(ctx), l.take())
		}
		return c.head, c.err
	case <-c.done:
		return c.head, c.err
	case <-ctx.Done():
		l.mu.Lock()
		l.waiting = slices.DeleteFunc(l.waiting, func(w *call) bool { return w == c })
		l.mu.Unlock()
		return Head{}, fmt.Errorf("%w: %w", ErrUnwritten, ctx.Err())
	}
}

func (c *call) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// take returns calls that wait, in the order in which they came.
func (l *Log) take() (calls []*call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.waiting) && (n == 0 || size+len(l.waiting[n].entries) <= maxBatch) {
		size += len(l.waiting[n].entries)
		n++
	}
	calls = slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return calls
}

// write writes calls to all sinks at once, each in its own time, and gives each call its outcome.
// The caller holds turn.
func (l *Log) write(ctx context.Context, calls []*call) {
	err := l.writeAll(ctx, calls)
	l.mu.Lock()
	for _, c := range calls {
		if c.err = err; err != nil {
			l.counts.Refused++
		} else {
			l.counts.Lines += uint64(len(c.entries))
		}
	}
	l.mu.Unlock()
	for _, c := range calls {
		close(c.done)
	}
}

func (l *Log) writeAll(ctx context.Context, calls []*call) error {
	n := 0
	for _, c := range calls {
		n += len(c.entries)
	}
	// of the records, which hold key and clock too
	store, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	keys, err := l.keys(store)
	if err != nil {
		for _, s := range l.sinks { // none can take lines without it
			l.marks.miss(s.chain, time.Now(), 0, n, err)
		}
		l.report("store", err, Gap{})
		return fmt.Errorf("%w: its key cannot be read: %w", ErrUnwritten, err)
	}
	b := batch{keys: keys}
	var now time.Time
	for _, c := range calls {
		of := len(c.entries)
		if of == 1 {
			of = 0
		}
		for _, e := range c.entries {
			if e.At.IsZero() {
				if now.IsZero() {
					now = l.now(store)
				}
				e.At = now
			}
			b.entries = append(b.entries, e)
			b.of = append(b.of, of)
		}
	}
	heads, err := l.writeSinks(ctx, store, b, b.entries[0].At)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnwritten, err)
	}
	for _, c := range calls {
		c.head, heads = heads[len(c.entries)-1], heads[len(c.entries):]
	}
	return nil
}

// writeSinks writes b to all sinks at once. A sink that lacks lines gets a line before it that
// says so. If b is empty, only such sinks are written. store is the context for the first sink. It
// returns the heads at the first sink that took b. The caller holds turn.
func (l *Log) writeSinks(ctx, store context.Context, b batch, at time.Time) (heads []Head, err error) {
	type outcome struct {
		heads []Head
		err   error
	}
	outcomes := make([]chan outcome, len(l.sinks))
	gaps := make([]Gap, len(l.sinks))
	for i, s := range l.sinks {
		b := b
		if gaps[i] = l.marks.gap(s.chain); !gaps[i].IsZero() {
			b = b.put(gaps[i].entry(at))
		}
		if len(b.entries) == 0 {
			continue
		}
		outcomes[i] = make(chan outcome, 1)
		its, cancel := store, context.CancelFunc(func() {})
		if i > 0 {
			its, cancel = context.WithTimeout(ctx, within)
		}
		go func() {
			defer cancel()
			heads, err := s.write(its, b)
			outcomes[i] <- outcome{heads, err}
		}()
	}
	var errs []error
	failed := map[string]error{} // by chain
	for i, s := range l.sinks {
		if outcomes[i] == nil {
			continue
		}
		o := <-outcomes[i]
		if o.err != nil {
			failed[s.chain] = o.err
			errs = append(errs, fmt.Errorf("%s: %w", s.name, o.err))
			continue
		}
		l.marks.see(o.heads[len(o.heads)-1])
		if heads == nil {
			heads = o.heads[len(o.heads)-len(b.entries):]
		}
	}
	for i, s := range l.sinks { // now it is known whether one took the lines
		if outcomes[i] == nil {
			continue
		}
		var lacked Gap
		err := failed[s.chain]
		switch {
		case err == nil:
			lacked = gaps[i]
			l.marks.fill(s.chain, lacked)
		case heads == nil:
			l.marks.miss(s.chain, at, 0, len(b.entries), err)
		default:
			l.marks.miss(s.chain, at, len(b.entries), 0, err)
		}
		l.report(s.name, err, lacked)
	}
	if heads == nil {
		return nil, errors.Join(errs...)
	}
	return heads, nil
}

// report keeps why a sink could not be written, or that it was, and what it lacked before.
func (l *Log) report(sink string, err error, lacked Gap) {
	if err != nil {
		l.mu.Lock()
		l.counts.Failed[sink]++
		l.mu.Unlock()
	}
	l.note(sink, func(s *state) { s.write, s.lacked = err, s.lacked.and(lacked) })
}

// note changes the state of a sink, and tells if that is down now and was not before, or the other
// way round.
func (l *Log) note(sink string, change func(*state)) {
	l.mu.Lock()
	now := l.states[sink]
	before := now.err()
	change(&now)
	err, lacked := now.err(), now.lacked
	if err == nil {
		now.lacked = Gap{}
	}
	l.states[sink] = now
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		l.cfg.Log.Error("the audit log cannot be written to a sink", "sink", sink, "err", err)
		lacked = Gap{}
	case err == nil && (before != nil || !lacked.IsZero()):
		l.cfg.Log.Info("the audit log can be written again", "sink", sink, "lacks", lacked.Words())
	default:
		return
	}
	if l.cfg.Changed != nil {
		l.cfg.Changed(sink, err, lacked)
	}
}
