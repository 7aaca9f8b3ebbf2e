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
// calls it.
func (r *Recorder) Watcher() func(all []api.Problem, peers []string) {
	var w watched
	return func(all []api.Problem, peers []string) { w.look(r.Record, all, peers, time.Now()) }
}

// watched is what the look before found.
type watched struct {
	problems map[[2]string]*problem // problems are by code and where.
	peers    map[string]bool        // A peer is false while it is not heard of.
}

type problem struct {
	api.Problem
	told bool
	gone bool // gone reports that the look before did not find it.
}

// look records what differs from the look before. A problem is told once two looks have found it,
// and is over once two have not, since some come and go within a moment.
func (w *watched) look(record func(Entry), all []api.Problem, peers []string, now time.Time) {
	if w.problems == nil {
		w.problems, w.peers = map[[2]string]*problem{}, map[string]bool{}
	}
	found := map[[2]string]bool{}
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
		case !p.told:
			p.told = true
			record(Entry{Level: slog.LevelWarn, Event: events.Event{
				Kind: events.Problem, Name: is.Code, At: now,
				Text: fmt.Sprintf("%s, since %s: %s",
					is.Severity, is.Since.UTC().Format(time.RFC3339), problems.Sentence(is)),
			}})
		default:
			p.gone = false
		}
	}
	for key, p := range w.problems {
		switch {
		case found[key]:
		case !p.told:
			delete(w.problems, key)
		case !p.gone:
			p.gone = true
		default:
			delete(w.problems, key)
			record(Entry{Event: events.Event{Kind: events.ProblemOver, Name: p.Code, At: now, Text: fmt.Sprintf(
				"over after %s: %s", now.Sub(p.Since).Round(time.Second), p.Text)}})
		}
	}
	w.lookAtPeers(record, peers, now)
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
