package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// report is what one run saw.
type report struct {
	Day    time.Time
	System string
	CPUs   int
	Rows   []row
	// by who made the session, then by who was offered it, in the order of Rows
	Matrix           [][]string
	Totals           []string
	Refused, Offered int // live tickets, during the rotation of the mixed fleet
}

// row is what was seen of one version.
type row struct {
	Version string
	Cells   map[column]cell

	binary string
}

// cell is what was seen of one thing.
type cell struct {
	OK   bool   // OK is true if it is so, or works.
	Says string // Says is the word in the table.
	Why  string // Why is what goes under the table: Envoy's words, or what went otherwise.
}

func (c cell) text() string {
	if c.Why == "" {
		return c.Says
	}
	return c.Says + ": " + c.Why
}

type column int

const (
	rotates column = iota
	mixed
	onDemand
	hybrid
	corpus
	falseACK
)

var columns = []struct{ name, means string }{
	rotates: {"Rotation", "Two Envoys of the version, and clients of TLS 1.2 and 1.3 that move between them. " +
		"The ticket keys are rotated once, until the old key has left the ring. " +
		"A live ticket that is not resumed, or a failed handshake, counts against it. " +
		"Afterwards a session of each Envoy is offered at each, for both versions of TLS."},
	mixed: {"Mixed fleet", "One Envoy of each version in one fleet, with one rotation under the same clients. " +
		"The figure counts the sessions that this version made, and those that it was offered: " +
		"by and to every version, for TLS 1.2 and 1.3, before the rotation and after it."},
	onDemand: {"On demand", "`lockstep bootstrap envoy --mode on-demand`. " +
		"A name that stands in no configuration is served, and a name without certificate is refused at once. " +
		"No session resumes; where one does, a note says so."},
	hybrid: {"Hybrid", "`lockstep bootstrap envoy --mode hybrid`. The listener comes from lockstepd. " +
		"A session of an eager host resumes, other names are served on demand, " +
		"and a host that is pinned later resumes too."},
	corpus: {"Corpus", "The test `test/corpus` with this Envoy: " +
		"no certificate that Envoy refuses is taken by Lockstep."},
	falseACK: {"False ACK", "An Envoy refuses a certificate (an EC key whose keyUsage is keyAgreement), " +
		"and is sent the same bytes again. “yes” says that it then answers with an ACK, " +
		"though it still serves the certificate before. So an ACK for bytes that it was sent last says nothing."},
}

func (c column) String() string { return columns[c].name }

// markdown writes the page.
func (r report) markdown() []byte {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("# Which Envoy can do what\n")
	p("%s\n", wrap(fmt.Sprintf("`make compat` wrote this page on %s, on %s with %d CPUs. "+
		"It runs every check below on real Envoys, with the real lockstepd. Each cell is what that run saw. "+
		"Type `make compat` to make the page anew: it installs the Envoys, takes a few minutes, and ends by itself.",
		r.Day.Format("2006-01-02"), r.System, r.CPUs), ""))
	head, rule := "| Envoy |", "|---|"
	for _, c := range columns {
		head, rule = head+" "+c.name+" |", rule+"---|"
	}
	p("%s\n%s", head, rule)
	var notes []string
	for _, row := range r.Rows {
		line := "| " + row.Version + " |"
		for c := range columns {
			line += " " + cellText(row.Cells[column(c)], &notes) + " |"
		}
		p("%s", line)
	}
	if len(notes) > 0 {
		p("")
	}
	for i, n := range notes {
		p("%s", wrap(fmt.Sprintf("%d. %s", i+1, n), "   "))
	}
	p("\n%s\n", wrap("`lockstep bootstrap envoy --envoy-version X.Y.Z` refuses a mode that the version cannot do, "+
		"and warns of one that has a note.", ""))
	p("## What the columns mean\n")
	for _, c := range columns {
		p("%s", wrap(fmt.Sprintf("- **%s**: %s", c.name, c.means), "  "))
	}
	p("\n## One fleet of all versions\n")
	p("%s\n", wrap("The Envoy of the row made a session, which was offered at the Envoy of the column. "+
		"The figure says how many resumed: of TLS 1.2 and 1.3, before the rotation and after it.", ""))
	head, rule = "| |", "|---|"
	for _, row := range r.Rows {
		head, rule = head+" "+row.Version+" |", rule+"---|"
	}
	p("%s\n%s", head, rule)
	for i, line := range r.Matrix {
		p("| %s | %s |", r.Rows[i].Version, strings.Join(line, " | "))
	}
	p("")
	for _, t := range r.Totals {
		p("- %s", t)
	}
	p("- live tickets refused during the rotation: %d of %d", r.Refused, r.Offered)
	return []byte(b.String())
}

// wrap breaks a paragraph into lines that end before column 100. Every line but the first begins
// with the margin.
func wrap(text, margin string) string {
	const width = 99
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + margin)
			at = len(margin)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// cellText returns the word of a cell, with the number of its note. Equal notes are one.
func cellText(c cell, notes *[]string) string {
	text := strings.ReplaceAll(c.Says, "|", `\|`)
	if c.Why == "" {
		return text
	}
	note := strings.Join(strings.Fields(c.Why), " ") // one line
	i := slices.Index(*notes, note)
	if i < 0 {
		i = len(*notes)
		*notes = append(*notes, note)
	}
	return fmt.Sprintf("%s (%d)", text, i+1)
}

// verdict returns an error that names what must work on every version, and did not.
func (r report) verdict() error {
	var errs []error
	for _, row := range r.Rows {
		for _, c := range []column{rotates, mixed} {
			if !row.Cells[c].OK {
				errs = append(errs, fmt.Errorf("on Envoy %s: %s: %s", row.Version, c, row.Cells[c].text()))
			}
		}
		if c := row.Cells[corpus]; !c.OK && c.Says == "no" {
			errs = append(errs, fmt.Errorf("on Envoy %s: %s: %s", row.Version, corpus, c.Why))
		}
	}
	return errors.Join(errs...)
}
