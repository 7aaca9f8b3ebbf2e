package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/events"
)

// Config names where events go.
type Config struct {
	Replica string
	// Journal keeps events.
	Journal Journal
	// Bus carries them to other processes.
	Bus events.Publisher
	// Watch hands a line to those who watch. It does not block.
	Watch func(api.Line)
	Log   *slog.Logger
}

// Journal keeps events, in their order.
type Journal interface {
	Append(...events.Event) error
	Sync() error
}

// Entry is an event with what not every path gets.
type Entry struct {
	events.Event
	// Line is what those who watch get. Nil stands for one that is made of the event.
	Line *api.Line
	// Same is what counts as the same within a kind, if that is not the node and the name. Where
	// somebody else chooses the name, it bounds the lines.
	Same string
	// Level is that of the line in the log.
	Level slog.Level
	// Logged reports that the log has its line already.
	Logged bool
}

// maxWaiting bounds the entries that wait to be told, and the events that wait to be written.
const maxWaiting = 16 << 10

// syncEvery is how much of the record a crash of the machine may lose.
const syncEvery = 5 * time.Second

// Recorder is an [events.Publisher]. All methods are safe for concurrent use.
type Recorder struct {
	cfg  Config
	wake chan struct{} // capacity 1
	due  chan struct{} // due says that there is something to write. Its capacity is 1.

	mu       sync.Mutex
	waiting  []Entry
	lost     map[events.Kind]int // lost counts what did not fit into waiting.
	told     []events.Event      // told are those that are to be written.
	missing  map[events.Kind]int // missing counts what is told, and could not be written.
	missedAt time.Time           // missedAt is since when missing is not empty.
	failed   error               // failed is why the journal could not be written the last time.

	flood flood // Only Run's goroutine uses it.
}

// New starts nothing. What is published before Run waits for it.
func New(c Config) *Recorder {
	return &Recorder{
		cfg: c, wake: make(chan struct{}, 1), due: make(chan struct{}, 1),
		lost: map[events.Kind]int{}, missing: map[events.Kind]int{}, flood: newFlood(time.Now()),
	}
}

// Publish implements [events.Publisher].
func (r *Recorder) Publish(e events.Event) { r.Record(Entry{Event: e}) }

// Record passes an entry on. It does not block.
func (r *Recorder) Record(e Entry) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if e.Text != "" {
		e.Replica = r.cfg.Replica
	}
	if e.Kind.Wakes() {
		r.publish(e.Event)
	}
	if e.Text == "" {
		return
	}
	r.mu.Lock()
	if len(r.waiting) < maxWaiting {
		r.waiting = append(r.waiting, e)
	} else {
		r.lost[e.Kind]++
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Problems says that the record cannot be written.
func (r *Recorder) Problems() []api.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		return nil
	}
	return []api.Problem{
		problems.New(problems.Unrecorded, "", fmt.Sprintf("what happens cannot be recorded: %v", r.failed)),
	}
}

// Run tells and writes what was recorded until ctx ends, and then what is left. A disk that hangs
// holds up what is written, and nothing else.
func (r *Recorder) Run(ctx context.Context) error {
	over := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { r.keep(over) })
	defer writer.Wait()
	defer close(over)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			now := time.Now()
			r.tell(append(r.take(now), r.flood.due(now.Add(time.Hour))...))
			return nil
		case <-r.wake:
		case <-tick.C:
		}
		r.tell(r.take(time.Now()))
	}
}

// Close writes what was recorded after Run had ended.
func (r *Recorder) Close() {
	r.tell(r.take(time.Now()))
	r.write()
}

// take returns what is to be told now.
func (r *Recorder) take(now time.Time) (out []Entry) {
	r.mu.Lock()
	waiting, lost := r.waiting, r.lost
	r.waiting = nil
	if len(lost) > 0 {
		r.lost = map[events.Kind]int{}
	}
	r.mu.Unlock()
	for _, e := range waiting {
		if r.flood.passes(e, now) {
			out = append(out, e)
		}
	}
	for kind, n := range lost {
		r.flood.miss(kind, "", n)
	}
	return append(out, r.flood.due(now)...)
}

// tell hands entries to all that get them, and the journal last.
func (r *Recorder) tell(all []Entry) {
	if len(all) == 0 {
		return
	}
	list := make([]events.Event, len(all))
	for i := range all {
		e := &all[i]
		if e.Replica == "" {
			e.Replica = r.cfg.Replica
		}
		list[i] = e.Event
		if !e.Logged {
			r.log(*e)
		}
		if e.Line == nil {
			l := LineOf(e.Event)
			e.Line = &l
		}
		r.cfg.Watch(*e.Line)
		if !e.Kind.Wakes() {
			r.publish(e.Event)
		}
	}
	r.mu.Lock()
	fit := min(len(list), maxWaiting-len(r.told))
	r.told = append(r.told, list[:fit]...)
	r.miss(list[fit:])
	r.mu.Unlock()
	select {
	case r.due <- struct{}{}:
	default:
	}
}

func (r *Recorder) publish(e events.Event) {
	e.Hosts = ""
	r.cfg.Bus.Publish(e)
}

// log writes the line of the log.
func (r *Recorder) log(e Entry) {
	attrs := []slog.Attr{slog.String("event", string(e.Kind))}
	for _, a := range [][2]string{
		{"node", e.Node}, {"name", e.Name}, {"scope", e.Scope}, {"version", e.Version}, {"by", e.By},
	} {
		if a[1] != "" {
			attrs = append(attrs, slog.String(a[0], a[1]))
		}
	}
	r.cfg.Log.LogAttrs(context.Background(), e.Level, e.Text, attrs...)
}

// note keeps whether the record can be written, and logs a change.
func (r *Recorder) note(err error) {
	r.mu.Lock()
	before := r.failed
	r.failed = err
	r.mu.Unlock()
	switch {
	case err != nil && before == nil:
		r.cfg.Log.Error("what happens cannot be recorded: lockstep events will not know of it", "err", err)
	case err == nil && before != nil:
		r.cfg.Log.Info("what happens can be recorded again")
	}
}

// LineOf returns an event as those who watch get it.
func LineOf(e events.Event) api.Line {
	return api.Line{
		At: e.At, Scope: e.Scope, What: string(e.Kind), Rotation: e.Rotation, By: e.By, Why: e.Why,
		Kind: string(e.Kind), Node: e.Node, Name: e.Name, Text: e.Text, Version: e.Version, Replica: e.Replica,
	}
}
