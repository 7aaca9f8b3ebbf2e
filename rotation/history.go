package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// LineKind says what a [Line] tells of. The text is part of the record, the API, the events and the audit log.
type LineKind string

// The kinds of a line. The first three are named like the phase that begins with them.
const (
	LineDistributing LineKind = "distributing" // a new key is sent, and decrypts only
	LinePromoting    LineKind = "promoting"    // the new key encrypts
	LineBurning      LineKind = "burning"      // a fresh key has replaced every key
	LineDone         LineKind = "done"         // a rotation has ended, or a scope has begun
	LineBurnt        LineKind = "burnt"        // a burn has ended: no node may hold a burnt key
	LineTakenBack    LineKind = "taken-back"   // a node refused the new key, which has left the ring
	LineRolledBack   LineKind = "rolled-back"  // an operator has undone the newest change
	LineRetired      LineKind = "retired"      // a drained key has left the ring
	LineExcluded     LineKind = "excluded"     // a node is not waited for
	LineIncluded     LineKind = "included"     // an exclusion was taken back
	LineRebased      LineKind = "rebased"      // nodes hold later rings than the store has: its generation was lifted
	LineWrittenBack  LineKind = "written-back" // a replica has stored the ring that it held in memory
	LineRestored     LineKind = "restored"     // keys of a backup came back
)

// Line is one entry of a rollout's history: what was done to the keys, by whom and why, how long it took and which nodes it
// waited for. A line has no field that the version before does not know: that one would leave the record alone.
type Line struct {
	At         time.Time     `json:"at"`
	What       LineKind      `json:"what"`
	Rotation   uint64        `json:"rotation,omitempty"`
	Generation uint64        `json:"generation"`
	Key        string        `json:"key,omitempty"` // keysource.TicketKey.ID
	By         string        `json:"by,omitempty"`
	Why        string        `json:"why,omitempty"`
	Nodes      int           `json:"nodes,omitempty"`       // Nodes counts the live members that had accepted.
	Took       time.Duration `json:"took_ns,omitempty"`     // Took is how long the phase lasted that ended with this line.
	WaitedFor  []string      `json:"waited_for,omitempty"`  // WaitedFor names the last ones that the phase waited for, as LeftBehind does.
	LeftBehind []string      `json:"left_behind,omitempty"` // LeftBehind names at most 20 nodes; if there are more, "and 980 more" follows.
}

// Behind returns how many nodes were left behind.
func (l Line) Behind() int {
	n := len(l.LeftBehind)
	var more int
	if n == maxNamed+1 {
		if _, err := fmt.Sscanf(l.LeftBehind[maxNamed], andMore, &more); err == nil {
			return maxNamed + more
		}
	}
	return n
}

// What a history holds at most. The record is written anew with each step, so it has its own bound as well: see maxRecord.
const (
	maxHistory = 200
	maxBy      = 256     // bytes of Line.By
	maxWhy     = 1 << 10 // bytes of Line.Why
)

func (r *Rollout) log(l Line) {
	l.Generation = r.Generation
	if l.Rotation == 0 {
		l.Rotation = r.Begun
	}
	l.By, l.Why = brief(l.By, maxBy), brief(l.Why, maxWhy)
	r.History = append(r.History, l)
	r.Lines++
	if extra := len(r.History) - maxHistory; extra > 0 {
		r.History = slices.Delete(r.History, 0, extra)
	}
}

// brief cuts a text that has more than so many bytes.
func brief(s string, most int) string {
	const cut = "…"
	if len(s) <= most {
		return s
	}
	end := most - len(cut)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.Clone(s[:end]) + cut
}

// maxNamed is how many nodes are named one by one where all of a fleet may be meant.
const maxNamed = 20

const andMore = "and %d more"

func names(ms []*Member) (out []string) {
	for _, m := range ms {
		out = append(out, m.Name())
	}
	return out
}

// someNames names the first of ms and counts the others.
func someNames(ms []*Member) []string {
	if len(ms) <= maxNamed {
		return names(ms)
	}
	return append(names(ms[:maxNamed]), fmt.Sprintf(andMore, len(ms)-maxNamed))
}

// some keeps the first texts of a list and counts the others.
func some(list []string) []string {
	if len(list) <= maxNamed {
		return list
	}
	return append(slices.Clone(list[:maxNamed]), fmt.Sprintf(andMore, len(list)-maxNamed))
}
