package recorder

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/events"
)

// keep writes what was told, until over is closed, and then what is left.
func (r *Recorder) keep(over <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	synced, dirty := time.Now(), false
	for {
		last := false
		select {
		case <-over:
			last = true
		case <-r.due:
		case <-tick.C:
		}
		dirty = r.write() || dirty
		if last {
			return
		}
		if now := time.Now(); dirty && now.Sub(synced) >= syncEvery {
			// That it can be synced does not mean that lines fit.
			if err := r.cfg.Journal.Sync(); err != nil {
				r.note(err)
			}
			synced, dirty = now, false
		}
	}
}

// write appends what was told to the journal. What cannot be written is counted, and a line says
// how much that was once the journal can be written again. It reports whether there was something
// to write.
func (r *Recorder) write() bool {
	r.mu.Lock()
	list := r.told
	r.told = nil
	r.mu.Unlock()
	if len(list) > 0 {
		err := r.cfg.Journal.Append(list...)
		r.note(err)
		if err != nil {
			r.mu.Lock()
			r.miss(list)
			r.mu.Unlock()
			return true
		}
	}
	r.mu.Lock()
	missing, since, more := maps.Clone(r.missing), r.missedAt, len(r.told) > 0
	r.mu.Unlock()
	if len(missing) == 0 || more { // more comes before the line
		return len(list) > 0
	}
	e := dropped(missing, since, time.Now())
	e.Replica = r.cfg.Replica
	err := r.cfg.Journal.Append(e)
	if r.note(err); err != nil {
		return true
	}
	r.mu.Lock()
	for kind, n := range missing {
		if r.missing[kind] -= n; r.missing[kind] == 0 {
			delete(r.missing, kind)
		}
	}
	r.missedAt = time.Now()
	r.mu.Unlock()
	r.log(Entry{Event: e, Level: slog.LevelWarn})
	r.cfg.Watch(LineOf(e))
	r.cfg.Bus.Publish(e)
	return true
}

// miss counts events that are not written. The caller holds the lock.
func (r *Recorder) miss(all []events.Event) {
	if len(all) > 0 && len(r.missing) == 0 {
		r.missedAt = time.Now()
	}
	for _, e := range all {
		r.missing[e.Kind]++
	}
}

// dropped says how many events were not written since a time.
func dropped(missing map[events.Kind]int, since, now time.Time) events.Event {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(missing)) {
		parts = append(parts, fmt.Sprintf("%d × %s", missing[kind], kind))
	}
	return events.Event{Kind: events.Dropped, At: now, Text: fmt.Sprintf(
		"the record could not be written for %s, and lacks at most %s",
		seconds(now.Sub(since)), strings.Join(parts, ", "))}
}
