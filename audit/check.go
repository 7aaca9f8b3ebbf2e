package audit

import (
	"bytes"
	"fmt"
)

// Fault is what is wrong with a line: changed, inserted, missing, reordered, repeated, replaced,
// cut-off or stale.
type Fault string

const (
	faultChanged   Fault = "changed"   // its bytes are not those that were written
	faultInserted  Fault = "inserted"  // it was never written
	faultMissing   Fault = "missing"   // it is not there
	faultReordered Fault = "reordered" // it stands behind later ones
	faultRepeated  Fault = "repeated"  // it stands there again, behind later ones
	faultReplaced  Fault = "replaced"  // another line has its number
	faultCutOff    Fault = "cut-off"   // the log ends before it
	faultStale     Fault = "stale"     // a rollout is older than the log
)

// Problem is one fault, of the lines First to Last.
type Problem struct {
	Fault       Fault
	First, Last uint64
	Words       string
}

// Report is what was found in one chain.
type Report struct {
	Chain    string
	Lines    uint64 // that are as they were written
	Head     Head   // the last of them
	Problems []Problem
	More     int // problems that are left out
}

const maxProblems = 1000

// Witness is a head that is kept elsewhere. A chain that does not hold it is not the one that was
// written.
type Witness struct {
	Who   string // for people, such as: the rollout of scope default
	Scope string // whose last change it names; "": it does not name a change
	Head  Head
}

// checker goes through one chain, line by line. It keeps what is wrong, not the lines.
type checker struct {
	Report
	key       []byte
	witnesses map[uint64][]Witness // of this chain, not met yet
	missing   []gap
	odd       []string          // where the bytes stood that are no line, since the last one
	items     map[string]uint64 // digest of names that a line stands for, and its number
	after     map[string]uint64 // by scope: the newest line on which a later change was built
}

// gap is a run of numbers that were not seen so far.
type gap struct{ first, last uint64 }

func newChecker(chain string, key []byte, ws []Witness) *checker {
	c := &checker{
		Report: Report{Chain: chain, Head: Head{Chain: chain}}, key: key,
		witnesses: map[uint64][]Witness{}, after: map[string]uint64{}, items: map[string]uint64{},
	}
	for _, w := range ws {
		if w.Head.Chain != chain || w.Head.IsZero() {
			continue
		}
		c.witnesses[w.Head.Number] = append(c.witnesses[w.Head.Number], w)
	}
	return c
}

func (c *checker) found(f Fault, first, last uint64, format string, a ...any) {
	if len(c.Problems) >= maxProblems {
		c.More++
		return
	}
	c.Problems = append(c.Problems, Problem{f, first, last, fmt.Sprintf(format, a...)})
}

// line takes the next line. where says where it stood.
func (c *checker) line(raw []byte, where string) {
	l, err := decode(c.key, raw)
	if err != nil || l.Chain != c.Chain {
		c.odd = append(c.odd, where)
		return
	}
	c.Lines++
	for _, w := range c.witnesses[l.Number] {
		if w.Head.MAC != l.MAC {
			c.found(faultReplaced, l.Number, l.Number, "%s names another line %d than the one that %s has",
				w.Who, l.Number, where)
		}
	}
	delete(c.witnesses, l.Number)
	if l.Items != "" {
		c.items[l.Items] = l.Number
	}
	if n, ok := parseRef(l.After, c.Chain); ok && l.Scope != "" {
		c.after[l.Scope] = max(c.after[l.Scope], n)
	}
	last := c.Head
	if l.Number <= last.Number {
		if c.fill(l.Number) {
			c.found(faultReordered, l.Number, l.Number,
				"line %d stands behind line %d in %s", l.Number, last.Number, where)
		} else {
			c.found(faultRepeated, l.Number, l.Number,
				"line %d stands again behind line %d in %s: an older state was put back",
				l.Number, last.Number, where)
		}
		return
	}
	if next := c.settle(l.Number); next < l.Number {
		c.missing = append(c.missing, gap{next, l.Number - 1})
	} else if next == last.Number+1 && l.Prev != last.MAC {
		c.found(faultReplaced, l.Number-1, l.Number,
			"line %d in %s was written behind another line %d than the one that is there",
			l.Number, where, l.Number-1)
	}
	c.Head = l.Head()
}

// settle gives the bytes that are no line the numbers that are missing before the line with
// number end, and returns the first number that is left. end is 0 at the end of the chain.
func (c *checker) settle(end uint64) uint64 {
	next := c.Head.Number + 1
	for _, where := range c.odd {
		if end == 0 || next < end {
			c.found(faultChanged, next, next, "line %d in %s is not as it was written", next, where)
			delete(c.witnesses, next)
			next++
		} else {
			c.found(faultInserted, end-1, end-1, "behind line %d, %s has bytes that were never written as a line",
				end-1, where)
		}
	}
	c.odd = nil
	return next
}

// fill takes n out of the gaps, and reports whether it was in one.
func (c *checker) fill(n uint64) bool {
	for i, g := range c.missing {
		if n < g.first || n > g.last {
			continue
		}
		var rest []gap
		if g.first < n {
			rest = append(rest, gap{g.first, n - 1})
		}
		if n < g.last {
			rest = append(rest, gap{n + 1, g.last})
		}
		c.missing = append(c.missing[:i:i], append(rest, c.missing[i+1:]...)...)
		return true
	}
	return false
}

// end says what the whole chain shows. The rollouts must have been read after the lines.
func (c *checker) end(rollouts []Witness) Report {
	next := c.settle(0)
	for _, g := range c.missing {
		c.found(faultMissing, g.first, g.last, "%s", missing(g))
	}
	for n, ws := range c.witnesses {
		for _, w := range ws {
			if n >= next {
				c.found(faultCutOff, next, n, "the log ends with line %d, and %s names line %d", next-1, w.Who, n)
			} else {
				c.found(faultMissing, n, n, "%s names line %d, which is not there", w.Who, n)
			}
		}
	}
	for _, w := range rollouts {
		if n := c.after[w.Scope]; w.Scope != "" && w.Head.Chain == c.Chain && n > w.Head.Number {
			c.found(faultStale, w.Head.Number, n, "%s names line %d as its last change, "+
				"but a later one was built on line %d: an older rollout was put back", w.Who, w.Head.Number, n)
		}
	}
	return c.Report
}

func missing(g gap) string {
	if g.first == g.last {
		return fmt.Sprintf("line %d is missing", g.first)
	}
	return fmt.Sprintf("lines %d to %d are missing", g.first, g.last)
}

// record takes the lines of a record or of a part of one.
func (c *checker) record(text []byte, where string) {
	for _, raw := range split(text) {
		if len(bytes.TrimSpace(raw)) > 0 {
			c.line(raw, where)
		}
	}
}
