package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"
)

// within bounds what one sink may take. A sink that hangs counts as one that is down.
const within = 250 * time.Millisecond

// These are the errors that callers tell apart.
var (
	// ErrUnwritten says that no sink took the line. The change that it was to name must not be
	// made.
	ErrUnwritten = errors.New("the audit log cannot be written, so nothing may be changed")
	// ErrBroken says that the newest lines in the records, or their key, are damaged, so that no
	// line can follow. [Log.Mend] goes on if no backup has them.
	ErrBroken = errors.New("put it back from a backup, or go on above the break")
	// ErrSound says that there is nothing to mend.
	ErrSound = errors.New("the newest lines of the audit log in the store are as they were written: " +
		"there is nothing to mend")
)

// Entry is what a caller has to say. It must hold no secret. Words that are too long are cut,
// visibly.
type Entry struct {
	At    time.Time `json:"at"`              // by the store's clock; zero: now
	Actor string    `json:"actor,omitempty"` // who
	What  string    `json:"what"`
	Scope string    `json:"scope,omitempty"`
	// Name is that of a certificate or a node, or what was asked for.
	Name string `json:"name,omitempty"`
	// Key is the fingerprint of a ticket key, the version of a certificate, or the SHA-256 of a
	// policy.
	Key string `json:"key,omitempty"`
	// KeyID is the ID of the ticket key whose fingerprint Key is. It is what the status shows.
	KeyID      string        `json:"key_id,omitempty"`
	Burnt      []string      `json:"burnt,omitempty"`
	Generation uint64        `json:"generation,omitempty"`
	Rotation   uint64        `json:"rotation,omitempty"`
	Nodes      int           `json:"nodes,omitempty"` // how many
	WaitedFor  []string      `json:"waited_for,omitempty"`
	LeftBehind []string      `json:"left_behind,omitempty"`
	Took       time.Duration `json:"took_ns,omitempty"`
	// Times is for how many changes of the kind the line stands. 0 is for one.
	Times int `json:"times,omitempty"`
	// Items is the SHA-256 of the names for which the line stands, see [Log.AppendMany].
	Items string `json:"items,omitempty"`
	Why   string `json:"why,omitempty"`
	// After is the [Head.Ref] of the last line of the change on which this one builds. In a line
	// that ends in Refused or Failed it is that of the line that said what was about to be done.
	After string `json:"after,omitempty"`
}

// These end the What of a line that says what became of an action that the log has already. A
// refused one was not done. Of one that failed that is not known.
const (
	Refused = "-refused"
	Failed  = "-failed"
)

// Config of a [Log].
type Config struct {
	Records Records // of the chain that all replicas share
	Replica string  // this replica's name: letters, digits, dots, dashes
	File    string  // a further sink: lines are appended to this file; "": none
	Syslog  string  // a further sink: local, unix:/path or tcp://host:port; "": none
	// MarkFile remembers how far the chains had come, so that a store or file that was put back
	// is noticed. "": only while the process lasts.
	MarkFile string
	// Changed is called when a sink cannot be written any more, and when it can again. Then err is
	// nil, and lacked is what the sink has no lines of. Changed does not block. Nil: nobody is
	// told.
	Changed func(sink string, err error, lacked Gap)
	Log     *slog.Logger
}

// Log appends to the chains, and checks them. All methods are safe for concurrent use. Several
// replicas append to the one shared chain, without a leader. Files and syslog are each replica's
// own.
type Log struct {
	cfg    Config
	sinks  []*bounded
	shared *sharedSink
	marks  *marks
	turn   chan struct{} // capacity 1; full while somebody writes

	mu      sync.Mutex
	known   *keys
	waiting []*call
	states  map[string]state // of the sinks
	counts  Counts

	strangers strangers
}

// state is how a sink is.
type state struct {
	write error // why it could not be written the last time
	look  error // why it could not, as it was looked at last; see lookAtSinks
	// lacked are lines that are missing, as the sink itself says by now. Nobody was told of them
	// yet.
	lacked Gap
}

// err is why the sink is down, or nil.
func (s state) err() error {
	if s.write != nil {
		return s.write
	}
	return s.look
}

// Counts is what a log did since it was made.
type Counts struct {
	Lines   uint64            // written, by at least one sink
	Refused uint64            // calls of Append that no sink took
	Failed  map[string]uint64 // writes that a sink failed, by sink; every sink is in it
}

// New reads the mark file. It neither starts anything nor touches the sinks. The caller closes
// the log.
func New(c Config) (*Log, error) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	if strings.Trim(c.Replica, letters) != "" || c.Replica == "" {
		return nil, fmt.Errorf("audit: %q is no name of a replica", c.Replica)
	}
	l := &Log{
		cfg: c, turn: make(chan struct{}, 1), states: map[string]state{},
		counts: Counts{Failed: map[string]uint64{}},
	}
	l.strangers.init()
	var err error
	if l.marks, err = readMarks(c.MarkFile); err != nil {
		return nil, err
	}
	l.shared = &sharedSink{
		records: c.Records, marks: l.marks, replica: c.Replica, log: c.Log, adopt: l.adopt,
		wake: make(chan struct{}, 1),
	}
	l.sinks = append(l.sinks, newBounded("store", sharedChain, l.shared))
	if c.File != "" {
		f := &fileSink{path: c.File, marks: l.marks, chain: "file/" + c.Replica, replica: c.Replica}
		l.sinks = append(l.sinks, newBounded("file", f.chain, f))
	}
	if c.Syslog != "" {
		s, err := newSyslogSink(c.Syslog, c.Replica, l.marks)
		if err != nil {
			return nil, err
		}
		l.sinks = append(l.sinks, newBounded("syslog", s.chain, s))
	}
	for _, s := range l.sinks {
		l.counts.Failed[s.name] = 0
	}
	return l, nil
}

// Close closes the sinks.
func (l *Log) Close() error {
	var errs []error
	for _, s := range l.sinks {
		if c, ok := s.sink.(io.Closer); ok {
			select {
			case s.busy <- struct{}{}: // and it stays so
				errs = append(errs, c.Close())
			case <-time.After(within):
			}
		}
	}
	return errors.Join(errs...)
}

// SinkError says which sink could not be written.
type SinkError struct {
	Sink  string // Sink is store, file or syslog.
	Lacks Gap    // Lacks is what the sink has no lines of.
	error
}

func (e SinkError) Unwrap() error { return e.error }

// Since is when the first line was not written, or zero if none was to be.
func (e SinkError) Since() time.Time { return e.Lacks.Since }

// Degraded names the sinks that cannot be written, why, and how many lines they lack. Each error
// is a [SinkError].
func (l *Log) Degraded() (out []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sinks {
		why := l.states[s.name].err()
		if why == nil {
			continue
		}
		lacks := l.marks.gap(s.chain)
		err := fmt.Errorf("the audit log cannot be written to the %s: %w", s.name, why)
		if words := lacks.Words(); words != "" {
			err = fmt.Errorf("%w; %s", err, words)
		}
		out = append(out, SinkError{s.name, lacks, err})
	}
	return out
}

// Counts returns the counts so far.
func (l *Log) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.Failed = maps.Clone(c.Failed)
	return c
}

// now is the clock of the records, or this machine's if the records do not say.
func (l *Log) now(ctx context.Context) time.Time {
	t, err := giveUp(ctx, l.cfg.Records.Now)
	if err != nil {
		t = time.Now()
	}
	return t.UTC()
}
