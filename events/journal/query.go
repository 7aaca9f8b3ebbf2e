package journal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/events"
)

// Query chooses lines. The zero value chooses all.
type Query struct {
	Since, Until time.Time // Until itself is not among them; zero: no end.
	// Match chooses further. Nil matches all.
	Match func(events.Event) bool
	// After leaves out what is not behind this place.
	After Place
	// Limit is how many lines are returned at most. 0 is for all.
	Limit int
}

// Place is where a line stands among those of all replicas.
type Place struct {
	At      time.Time
	Replica string
	Seq     uint64
}

// PlaceOf returns the place of a line.
func PlaceOf(l Line) Place { return Place{l.At, l.Replica, l.Seq} }

// Compare orders places by time. The replica and the number part those of one moment.
func (p Place) Compare(o Place) int {
	return cmp.Or(p.At.Compare(o.At), cmp.Compare(p.Replica, o.Replica), cmp.Compare(p.Seq, o.Seq))
}

// String returns p as [ParsePlace] reads it.
func (p Place) String() string {
	return fmt.Sprintf("%d-%d-%s", p.At.UnixNano(), p.Seq, p.Replica)
}

// ParsePlace reads what String returned.
func ParsePlace(s string) (Place, error) {
	at, rest, _ := strings.Cut(s, "-")
	seq, replica, ok := strings.Cut(rest, "-")
	nanos, err1 := strconv.ParseInt(at, 10, 64)
	n, err2 := strconv.ParseUint(seq, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Place{}, fmt.Errorf("%q is no place in the record of events", s)
	}
	return Place{time.Unix(0, nanos), replica, n}, nil
}

// Query returns the lines that q chooses, by their place, and whether there are more. A line that
// cannot be read is left out.
func (j *Journal) Query(ctx context.Context, q Query) (lines []Line, more bool, err error) {
	j.mu.Lock()
	var paths []string
	for i := range j.rings {
		for _, s := range j.rings[i].segs {
			paths = append(paths, s.path)
		}
	}
	j.mu.Unlock()
	for _, path := range paths {
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) { // it was dropped meanwhile
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("the record of events: %w", err)
		}
		// What follows the last line break is being written.
		for text := range bytes.Lines(b[:bytes.LastIndexByte(b, '\n')+1]) {
			var l Line
			if json.Unmarshal(text, &l) == nil && q.chooses(l) {
				lines = append(lines, l)
			}
		}
		lines, more = q.cut(lines, more)
	}
	return lines, more, nil
}

// cut sorts lines, and drops those beyond the limit, so that not all are in memory.
func (q Query) cut(lines []Line, more bool) ([]Line, bool) {
	slices.SortFunc(lines, func(a, b Line) int { return PlaceOf(a).Compare(PlaceOf(b)) })
	if q.Limit > 0 && len(lines) > q.Limit {
		clear(lines[q.Limit:])
		return lines[:q.Limit], true
	}
	return lines, more
}

func (q Query) chooses(l Line) bool {
	return !l.At.Before(q.Since) && (q.Until.IsZero() || l.At.Before(q.Until)) &&
		PlaceOf(l).Compare(q.After) > 0 && (q.Match == nil || q.Match(l.Event))
}
