package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// sharedChain is the name of the chain in Records, whatever keeps them. It stands in every line.
const sharedChain = "store"

// sharedSink is the chain that all replicas share. Its newest lines are the text of one record,
// audit/head, and appending is one compare-and-swap of it. Older lines go to records of their own
// (see segment).
//
// An append has little time. So whatever else takes a round trip is done beforehand, by ready.
type sharedSink struct {
	records Records
	marks   *marks
	replica string
	log     *slog.Logger
	adopt   func(*keys)   // the records have another key
	wake    chan struct{} // capacity 1: run has something to do

	segments

	// What follows belongs to those who may write.
	read    bool // rev and text are known
	rev     uint64
	text    []byte
	keyed   bool  // the key is in the store
	older   *Head // the newest line outside of audit/head, if that was looked for
	checked bool  // the mark was looked for in the older records
	tried   Head  // tried is the last line of a write that failed, and may be there nevertheless.
}

const linesPrefix = prefix + "lines/"

func (s *sharedSink) write(ctx context.Context, b batch) ([]Head, error) {
	for {
		heads, err := s.try(ctx, b)
		if err == nil {
			return heads, nil
		}
		s.read = false
		if errors.Is(err, errHead) || errors.Is(err, errKey) {
			// the store may have been lost, and have another key
			other, kerr := s.otherKey(ctx, b.keys)
			if kerr != nil {
				return nil, errors.Join(err, kerr)
			}
			if other != nil {
				b.keys = other
				s.adopt(other)
				continue
			}
		}
		if !errors.Is(err, ErrConflict) {
			s.rouse()
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("others were always first: %w", ctx.Err())
		}
	}
}

func (s *sharedSink) try(ctx context.Context, b batch) ([]Head, error) {
	last, why, err := s.follow(ctx, b)
	if err != nil {
		return nil, err
	}
	n := len(b.entries)
	if why != "" { // a line of its own: the mark moves on, and the proof must not be lost with it
		b = b.put(Entry{At: b.entries[0].At, Actor: "lockstepd", What: "audit-broken", Why: why})
	}
	added, heads, err := b.lines(last, s.replica)
	if err != nil {
		return nil, err
	}
	text, err := s.shorten(ctx, b, len(added))
	if err != nil {
		return nil, err
	}
	text = append(bytes.Clone(text), added...)
	if err := s.putKey(ctx, b.keys); err != nil {
		return nil, err
	}
	rev, err := s.records.Swap(ctx, headName, s.rev, text)
	if err != nil {
		if !errors.Is(err, ErrConflict) {
			s.tried = heads[len(heads)-1]
		}
		return nil, err
	}
	s.rev, s.text = rev, text
	if len(text) > segmentMax {
		s.rouse()
	}
	if why != "" {
		s.log.Error("the audit log is broken; the break stands in it, and verifying it names the break", "why", why)
	}
	return heads[len(heads)-n:], nil
}

// recall implements [recaller].
func (s *sharedSink) recall(ctx context.Context, k *keys) (landed Head, err error) {
	if s.tried.IsZero() {
		return landed, nil
	}
	if !s.read {
		if err := s.load(ctx); err != nil {
			s.rouse()
			return landed, err
		}
	}
	for _, raw := range split(s.text) {
		if line, err := decode(k.mac, raw); err == nil && line.Head() == s.tried {
			landed = s.tried
		}
	}
	s.tried = Head{}
	return landed, nil
}

// follow reads audit/head, unless it is known. It returns the line that the next one follows, and
// what is wrong with that line.
func (s *sharedSink) follow(ctx context.Context, b batch) (last Head, why string, err error) {
	if !s.read {
		if err := s.load(ctx); err != nil {
			return last, "", err
		}
	}
	return s.last(ctx, b)
}

func (s *sharedSink) load(ctx context.Context) error {
	text, rev, err := s.records.Get(ctx, headName)
	if errors.Is(err, ErrNotExist) {
		text, rev, err = nil, 0, nil
	}
	if errors.Is(err, ErrSealed) {
		err = fmt.Errorf("%w: %w", err, ErrBroken)
	}
	s.text, s.rev, s.read = text, rev, err == nil
	s.older, s.keyed = nil, len(text) > 0 // a store that was emptied has lost the key too
	return err
}

// parseName returns the numbers of the first and last line of a record.
func parseName(key string) (first, last uint64, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, linesPrefix), "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	first, err := strconv.ParseUint(parts[0], 16, 64)
	last, err2 := strconv.ParseUint(parts[1], 16, 64)
	return first, last, err == nil && err2 == nil
}

// split returns the lines of a record, without newlines.
func split(text []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

// errHead says that audit/head is not as it was written.
var errHead = fmt.Errorf("%s was changed by somebody without the audit key: %w", headName, ErrBroken)

// last is the head that the next line follows. If the records have gone back behind what this
// replica knows, it is the head that this replica knows, and why says so. Then the chain itself
// shows what is missing.
func (s *sharedSink) last(ctx context.Context, b batch) (last Head, why string, err error) {
	mark := s.marks.get(sharedChain)
	mark.Chain = sharedChain
	if len(s.text) > 0 {
		lines := split(s.text)
		line, err := decode(b.mac, lines[len(lines)-1])
		if err != nil || line.Chain != sharedChain {
			return last, "", errHead
		}
		last = line.Head()
	} else {
		if s.older == nil {
			older, err := s.lastArchived(ctx, b)
			if err != nil {
				return last, "", err
			}
			s.older = &older
		}
		last = *s.older
		if last.Number > 0 || mark.Number > 0 {
			why = fmt.Sprintf("%s was gone; the lines that stood there are lost", headName)
		}
	}
	switch {
	case last.Number < mark.Number:
		why = fmt.Sprintf("the store's log had gone back to line %d; replica %s knew line %d",
			last.Number, s.replica, mark.Number)
		last = mark
	case why == "":
		why, err = s.compare(ctx, b, mark)
	}
	s.checked = s.checked || err == nil
	return last, why, err
}

// compare looks whether the line of mark is still the one that it was. Lines of older records are
// looked for once, since later marks are of lines that this replica wrote.
func (s *sharedSink) compare(ctx context.Context, b batch, mark Head) (why string, err error) {
	if mark.Number == 0 {
		return "", nil
	}
	text := s.text
	first, err := decode(b.mac, split(text)[0])
	if err != nil {
		return "", errHead
	}
	if first.Number > mark.Number {
		if s.checked {
			return "", nil
		}
		if text, err = s.find(ctx, mark.Number); err != nil {
			return "", err
		}
	}
	for _, raw := range split(text) {
		if line, err := decode(b.mac, raw); err == nil && line.Number == mark.Number && line.MAC == mark.MAC {
			return "", nil
		}
	}
	return fmt.Sprintf("line %d is not the one that replica %s knew", mark.Number, s.replica), nil
}

// find returns the lines of the records that say they hold number n.
func (s *sharedSink) find(ctx context.Context, n uint64) (text []byte, err error) {
	for key, err := range s.records.Keys(ctx, linesPrefix) {
		if err != nil {
			return nil, err
		}
		if first, last, ok := parseName(key); ok && first <= n && n <= last {
			b, _, err := s.records.Get(ctx, key)
			if err != nil && !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrSealed) {
				return nil, err
			}
			text = append(text, b...)
		}
	}
	return text, nil
}

// lastArchived is the newest line outside of audit/head.
func (s *sharedSink) lastArchived(ctx context.Context, b batch) (last Head, err error) {
	newest := uint64(0)
	for key, err := range s.records.Keys(ctx, linesPrefix) {
		if err != nil {
			return last, err
		}
		if _, n, ok := parseName(key); ok {
			newest = max(newest, n)
		}
	}
	last = Head{Chain: sharedChain, Number: newest}
	if newest == 0 {
		return last, nil
	}
	text, err := s.find(ctx, newest)
	if err != nil {
		return last, err
	}
	for _, raw := range split(text) {
		if line, err := decode(b.mac, raw); err == nil && line.Number == newest {
			last = line.Head()
		}
	}
	return last, nil
}
