package audit

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// missedLine is the What of the line that tells of a [Gap].
const missedLine = "audit-missed"

// Gap is what a sink lacks since it could be written last. The next line that the sink takes says
// so, in the place of what is missing.
type Gap struct {
	Since time.Time `json:"since"`
	// Lines is how many lines other sinks took meanwhile. Lines of a write that hung may be there
	// nevertheless.
	Lines int `json:"lines,omitempty"`
	// Refused is how many lines no sink took. What they were to tell of was not done, or a later
	// line tells of it.
	Refused int    `json:"refused,omitempty"`
	Why     string `json:"why,omitempty"`
}

// IsZero reports whether nothing is missing.
func (g Gap) IsZero() bool { return g.Lines == 0 && g.Refused == 0 }

// Words says how many lines are missing. It is empty if none is.
func (g Gap) Words() string {
	var words []string
	if g.Lines > 0 {
		words = append(words, fmt.Sprintf("lines that other sinks took and this one lacks: %d", g.Lines))
	}
	if g.Refused > 0 {
		words = append(words, fmt.Sprintf("lines that no sink took: %d", g.Refused))
	}
	return strings.Join(words, "; ")
}

// with returns the gap with more lines. If there are none, another try to tell of it has failed.
func (g Gap) with(at time.Time, lines, refused int, why error) Gap {
	if lines+refused == 0 {
		return g
	}
	if g.IsZero() {
		g.Since = at
	}
	g.Lines, g.Refused = g.Lines+lines, g.Refused+refused
	g.Why = clip(strings.ReplaceAll(why.Error(), "\n", "; "), maxWords/2)
	return g
}

// and returns both gaps as one.
func (g Gap) and(next Gap) Gap {
	if g.IsZero() {
		return next
	}
	g.Lines, g.Refused = g.Lines+next.Lines, g.Refused+next.Refused
	return g
}

// entry is the line that tells of the gap.
func (g Gap) entry(at time.Time) Entry {
	return Entry{
		At: at, Actor: "lockstepd", What: missedLine, Times: g.Lines,
		Why: fmt.Sprintf("this sink could not be written from %s to %s; %s; %s", g.Since.UTC().Format(time.RFC3339),
			at.UTC().Format(time.RFC3339), g.Words(), cmp.Or(g.Why, "the reason is not known")),
	}
}
