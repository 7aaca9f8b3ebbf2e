package audit

import (
	"context"
	"sync"
	"time"
)

// markEvery bounds how often the mark file is written. The file may lag, since it is there to
// find a state of yesterday that was put back.
const markEvery = time.Second

// Run writes what [Log.Forbidden] noted, and the mark file, looks at the sinks, and keeps the
// shared chain ready for the next append, until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	var others sync.WaitGroup
	others.Go(func() { l.ready(ctx) })
	others.Go(func() { l.watchSinks(ctx) })
	defer others.Wait()
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	stale := false // the mark file could not be written
	for {
		select {
		case <-ctx.Done():
			l.writeForbidden(context.WithoutCancel(ctx))
			l.saveMarks(&stale)
			return nil
		case <-l.strangers.wake:
			l.writeForbidden(ctx)
		case <-tick.C:
			select {
			case <-l.marks.wake:
				l.saveMarks(&stale)
			default:
			}
		}
	}
}

func (l *Log) saveMarks(stale *bool) {
	err := l.marks.save()
	if err != nil && !*stale {
		l.cfg.Log.Error("the audit log's high-water mark cannot be written; what is put back would be noticed late",
			"file", l.cfg.MarkFile, "err", err)
	}
	if *stale = err != nil; *stale {
		l.marks.rouse() // again at the next tick
	}
}
