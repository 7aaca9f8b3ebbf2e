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
	// of the records, which hold key and clock too
	store, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	keys, err := l.keys(store)
	if err != nil {
		l.report("store", err)
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
	type outcome struct {
		heads []Head
		err   error
	}
	outcomes := make([]chan outcome, len(l.sinks))
	for i, s := range l.sinks {
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
	var heads []Head
	var errs []error
	for i, s := range l.sinks {
		o := <-outcomes[i]
		if l.report(s.name, o.err); o.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, o.err))
		} else {
			l.marks.see(o.heads[len(o.heads)-1])
			if heads == nil {
				heads = o.heads
			}
		}
	}
	if heads == nil {
		return fmt.Errorf("%w: %w", ErrUnwritten, errors.Join(errs...))
	}
	for _, c := range calls {
		c.head, heads = heads[len(c.entries)-1], heads[len(c.entries):]
	}
	return nil
}

// report keeps why a sink failed, and logs it if that is another state than before.
func (l *Log) report(sink string, err error) {
	l.mu.Lock()
	before := l.failed[sink]
	if err == nil {
		delete(l.failed, sink)
	} else {
		l.failed[sink] = err
		l.counts.Failed[sink]++
	}
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		l.cfg.Log.Error("the audit log cannot be written to a sink", "sink", sink, "err", err)
	case err == nil && before != nil:
		l.cfg.Log.Info("the audit log can be written again", "sink", sink)
	}
}
