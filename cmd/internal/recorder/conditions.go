package recorder

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/events"
)

// maxProblems bounds the problems that are followed at once.
const maxProblems = 100

// Watcher returns a function that takes what is not well from time to time, and the names of the
// other replicas that are heard of. It records what has begun and what has ended. One goroutine
// calls it. The file remembers which problems were told and are not over, for the next start. Over
// is told which problem is over.
func (r *Recorder) Watcher(file string, over func(code, where string)) func(all []api.Problem, peers []string) {
	w := r.resume(file, time.Now())
	w.over = over
	return func(all []api.Problem, peers []string) {
		w.look(r.Record, all, peers, time.Now())
		w.keep()
	}
}

// watched is what the look before found.
type watched struct {
	problems map[[2]string]*problem // problems are by code and where.
	peers    map[string]bool        // A peer is false while it is not heard of.
	// beyond is how many problems are not followed, and beyondTold how many the last line said.
	beyond, beyondTold int
	kept               kept
	over               func(code, where string) // It may be nil.
}

// problem is one that is followed. Its severity is the one that was told.
type problem struct {
	api.Problem
	told bool
	gone bool // gone reports that the look before did not find it.
	less bool // less reports that the look before found it less severe.
	// until is until when it does not count as over if no look finds it.
	until time.Time
}

// look records what differs from the look before. A problem is told once two looks have found it,
// and is over once two have not, since some come and go within a moment. One that gets more severe
// is told again.
func (w *watched) look(record func(Entry), all []api.Problem, peers []string, now time.Time) {
	w.begin()
	found := map[[2]string]bool{}
	beyond := 0
	for _, is := range all {
		if is.Severity == api.Notice { // one that was acknowledged stands
			continue
		}
		key := [2]string{is.Code, is.Where}
		found[key] = true
		p := w.problems[key]
		switch {
		case p == nil && len(w.problems) < maxProblems:
			w.problems[key] = &problem{Problem: is}
		case p == nil:
			beyond++
		case !p.told, worse(is, p.Problem):
			p.told, p.gone, p.less, p.Severity = true, false, false, is.Severity
			p.until, w.kept.changed = time.Time{}, true
			record(Entry{Level: slog.LevelWarn, Event: events.Event{
				Kind: events.Problem, Name: is.Code, At: now,
				Text: fmt.Sprintf("%s, since %s: %s",
					is.Severity, is.Since.UTC().Format(time.RFC3339), problems.Sentence(is)),
			}})
		default:
			less := worse(p.Problem, is)
			if less && p.less {
				p.Severity = is.Severity
			}
			p.gone, p.less, p.until = false, less, time.Time{}
		}
	}
	w.count(record, beyond, now)
	for key, p := range w.problems {
		switch {
		case found[key]:
		case !p.told:
			delete(w.problems, key)
		case now.Before(p.until):
		case !p.gone:
			p.gone = true
		default:
			delete(w.problems, key)
			w.kept.changed = true
			if w.over != nil {
				w.over(p.Code, p.Where)
			}
			record(Entry{Event: events.Event{Kind: events.ProblemOver, Name: p.Code, At: now, Text: fmt.Sprintf(
				"over after %s: %s", now.Sub(p.Since).Round(time.Second), p.Text)}})
		}
	}
	w.lookAtPeers(record, peers, now)
}

// worse reports whether a is more severe than b.
func worse(a, b api.Problem) bool {
	return slices.Index(api.Severities, a.Severity) < slices.Index(api.Severities, b.Severity)
}

// count says how many problems are not followed, once two looks have found some, and again when
// they have doubled.
func (w *watched) count(record func(Entry), beyond int, now time.Time) {
	n := min(beyond, w.beyond) // of two looks
	switch {
	case beyond == 0 && w.beyond == 0:
		w.beyondTold = 0
	case n > 0 && n >= 2*w.beyondTold:
		w.beyondTold = n
		record(Entry{Level: slog.LevelWarn, Event: events.Event{
			Kind: events.Problem, At: now,
			Text: fmt.Sprintf("%d more problems are not followed here: lockstep status has them", n),
		}})
	}
	w.beyond = beyond
}

func (w *watched) begin() {
	if w.problems == nil {
		w.problems, w.peers = map[[2]string]*problem{}, map[string]bool{}
	}
}

func (w *watched) lookAtPeers(record func(Entry), peers []string, now time.Time) {
	for _, name := range peers {
		heard, known := w.peers[name]
		w.peers[name] = true
		if heard {
			continue
		}
		text := "replica " + name + " is heard of"
		if known {
			text += " again"
		}
		record(Entry{Event: events.Event{Kind: events.ReplicaBack, Name: name, At: now, Text: text}})
	}
	for name, heard := range w.peers {
		if heard && !slices.Contains(peers, name) {
			w.peers[name] = false
			record(Entry{Level: slog.LevelWarn, Event: events.Event{
				Kind: events.ReplicaAway, Name: name, At: now,
				Text: "replica " + name + " is not heard of any more: it has ended, or cannot write to the store",
			}})
		}
	}
}
