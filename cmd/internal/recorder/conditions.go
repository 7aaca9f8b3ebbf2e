package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lockstep-tls/lockstep/events"
)

// Conditions are looked at from time to time. What has begun and what has ended is recorded.
type Conditions struct {
	// Every is the time between two looks.
	Every time.Duration
	// Problems says what is not well, in words.
	Problems func() []string
	// Peers are the names of the other replicas that are heard of.
	Peers func() []string
}

// maxProblems bounds the problems that are followed at once.
const maxProblems = 100

// Watch follows conditions until ctx ends.
func (r *Recorder) Watch(ctx context.Context, c Conditions) error {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var w watched
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		w.look(r.Record, c.Problems(), c.Peers(), time.Now())
	}
}

// watched is what the look before found.
type watched struct {
	problems map[string]*problem // problems are by their words without figures.
	peers    map[string]bool     // A peer is false while it is not heard of.
}

type problem struct {
	text  string
	since time.Time
	told  bool
	gone  bool // gone reports that the look before did not find it.
}

// look records what differs from the look before. A problem is told once two looks have found it,
// and is over once two have not, since some come and go within a moment.
func (w *watched) look(record func(Entry), problems, peers []string, now time.Time) {
	if w.problems == nil {
		w.problems, w.peers = map[string]*problem{}, map[string]bool{}
	}
	found := map[string]bool{}
	for _, text := range problems {
		key := strings.Map(plainLetters, text)
		found[key] = true
		p := w.problems[key]
		switch {
		case p == nil && len(w.problems) < maxProblems:
			w.problems[key] = &problem{text: text, since: now}
		case p == nil:
		case !p.told:
			p.told, p.text = true, text
			record(Entry{Level: slog.LevelWarn, Event: events.Event{
				Kind: events.Problem, At: p.since, Text: "not well: " + text,
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
			record(Entry{Event: events.Event{Kind: events.ProblemOver, At: now, Text: fmt.Sprintf(
				"over after %s: %s", now.Sub(p.since).Round(time.Second), p.text)}})
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

// plainLetters leaves out figures, which change from look to look.
func plainLetters(r rune) rune {
	if unicode.IsDigit(r) {
		return -1
	}
	return r
}
