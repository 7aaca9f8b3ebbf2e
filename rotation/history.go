package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// LineKind says what a [Line] tells. The text is part of the record, the API, the events and the
// audit log.
type LineKind string

// The kinds of a line. The first three are named like the phase that begins with them.
const (
	// lineDistributing says that a new key is sent, and only decrypts.
	lineDistributing LineKind = "distributing"
	linePromoting    LineKind = "promoting" // linePromoting says that the new key encrypts.
	// lineBurning says that a fresh key has replaced every key.
	lineBurning LineKind = "burning"
	// LineDone says that a rotation has ended, or a scope has begun.
	LineDone LineKind = "done"
	// LineBurnt says that a burn has ended, and no node may hold a burnt key.
	LineBurnt LineKind = "burnt"
	// lineTakenBack says that a node refused the new key, which is dropped.
	lineTakenBack LineKind = "taken-back"
	// LineRolledBack says that an operator has undone the newest change.
	LineRolledBack LineKind = "rolled-back"
	// LineRetired says that a drained key has left the ring.
	LineRetired  LineKind = "retired"
	lineExcluded LineKind = "excluded" // lineExcluded says that a node is not waited for.
	// lineIncluded says that an exclusion was taken back.
	lineIncluded LineKind = "included"
	// lineRebased says that the generation was lifted above the nodes'.
	lineRebased LineKind = "rebased"
	// lineWrittenBack says that a replica has stored the ring that it held.
	lineWrittenBack LineKind = "written-back"
	lineRestored    LineKind = "restored" // lineRestored says that keys of a backup came back.
)

// Line is one entry of a rollout's history. It tells what was done to the keys, by whom and why,
// how long it took and which nodes it waited for. A line has no field that the version before does
// not know, since that version would leave the record alone.
type Line struct {
	At         time.Time `json:"at"`
	What       LineKind  `json:"what"`
	Rotation   uint64    `json:"rotation,omitempty"`
	Generation uint64    `json:"generation"`
	Key        string    `json:"key,omitempty"` // Key is a keysource.TicketKey's ID.
	By         string    `json:"by,omitempty"`
	Why        string    `json:"why,omitempty"`
	// Nodes counts the live members that had accepted.
	Nodes int `json:"nodes,omitempty"`
	// Took is how long the phase lasted that ended here.
	Took time.Duration `json:"took_ns,omitempty"`
	// WaitedFor names the last nodes that were waited for.
	WaitedFor []string `json:"waited_for,omitempty"`
	// LeftBehind names at most 20; "and 980 more" follows.
	LeftBehind []string `json:"left_behind,omitempty"`
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

// What a history holds at most. The record is written anew with each step, so it is bounded as
// well; see maxRecord.
const (
	maxHistory = 200
	maxBy      = 256     // maxBy bounds Line.By, in bytes.
	maxWhy     = 1 << 10 // maxWhy bounds Line.Why, in bytes.
)

// log appends a line, and drops the oldest beyond maxHistory.
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

// brief cuts a text that has more than most bytes.
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

// maxNamed is how many nodes are named one by one where a whole fleet may be meant.
const maxNamed = 20

const andMore = "and %d more"

func allNames(ms []*Member) (out []string) {
	for _, m := range ms {
		out = append(out, m.Name())
	}
	return out
}

// Names names the first 20 of ms and counts the others.
func Names(ms []*Member) []string {
	if len(ms) <= maxNamed {
		return allNames(ms)
	}
	return append(allNames(ms[:maxNamed]), fmt.Sprintf(andMore, len(ms)-maxNamed))
}
