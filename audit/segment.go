package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// segmentMax bounds, in bytes, the lines that are put into a record of their own; once
	// audit/head has more, it is time.
	segmentMax = 16 << 10
	// headMax bounds audit/head itself: an append writes all of it, and puts lines aside if that
	// was not done in time. One append may exceed it.
	headMax = 2 * segmentMax
	// patience bounds what is done for an append beforehand, one step of it.
	patience = 5 * time.Second
	// pause is between two tries of it.
	pause = time.Second
)

// segment is the oldest lines of audit/head once there are more than a record takes. They get a
// record of their own, audit/lines/<first>-<last>-<start of the last MAC>, which is never written
// again. The next append leaves them out of audit/head. In between they stand in both, which does
// no harm.
//
// Where a segment ends follows from where it begins. So replicas that put it aside at the same
// time write the same record.
type segment struct {
	name string
	text []byte
}

// cut finds the segments that text begins with. What follows the last is at least a line.
func cut(text, mac []byte) (all []segment, err error) {
	for len(text) > segmentMax {
		end := bytes.LastIndexByte(text[:segmentMax], '\n') + 1 // a line is never longer
		lines := split(text[:end])
		first, err := decode(mac, lines[0])
		if err != nil {
			return nil, errHead
		}
		last, err := decode(mac, lines[len(lines)-1])
		if err != nil {
			return nil, errHead
		}
		name := fmt.Sprintf("%s%016x-%016x-%x", linesPrefix, first.Number, last.Number, last.MAC[:4])
		all = append(all, segment{name, text[:end]})
		text = text[end:]
	}
	return all, nil
}

// segments are those of audit/head as it was read last.
type segments struct {
	mu    sync.Mutex
	aside []string  // names of those that have their record
	due   []segment // the others, oldest first
}

// note takes over the segments of audit/head, and returns how many bytes of it have their record.
func (s *segments) note(all []segment) (done int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var aside []string
	for i, seg := range all {
		if !slices.Contains(s.aside, seg.name) {
			all = all[i:]
			s.aside, s.due = aside, all
			return done
		}
		aside = append(aside, seg.name)
		done += len(seg.text)
	}
	s.aside, s.due = aside, nil
	return done
}

func (s *segments) next() (seg segment, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.due) == 0 {
		return seg, false
	}
	return s.due[0], true
}

func (s *segments) done(seg segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside = append(s.aside, seg.name)
	s.due = slices.DeleteFunc(slices.Clone(s.due), func(d segment) bool { return d.name == seg.name })
}

// shorten returns audit/head without the segments that have their record. If it would be too long
// with so many bytes added, further segments get their record now.
func (s *sharedSink) shorten(ctx context.Context, b batch, added int) (text []byte, err error) {
	all, err := cut(s.text, b.mac)
	if err != nil {
		return nil, err
	}
	done := s.note(all)
	for len(s.text)-done+added > headMax {
		seg, ok := s.next()
		if !ok {
			break
		}
		if err := s.putAside(ctx, seg); err != nil {
			return nil, err
		}
		done = s.note(all)
	}
	return s.text[done:], nil
}

// putAside gives a segment its record, unless the segment has one.
func (s *sharedSink) putAside(ctx context.Context, seg segment) error {
	if _, err := s.records.Swap(ctx, seg.name, 0, seg.text); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	s.done(seg)
	return nil
}

// rouse wakes ready.
func (s *sharedSink) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// prepare reads what an append needs to know, so that the append itself is one write. The caller
// must be the one who may write.
func (s *sharedSink) prepare(ctx context.Context, k *keys) error {
	b := batch{keys: k}
	if _, _, err := s.follow(ctx, b); err != nil {
		s.read = false
		return err
	}
	if err := s.putKey(ctx, k); err != nil {
		return err
	}
	all, err := cut(s.text, b.mac)
	if err == nil {
		s.note(all)
	}
	return err
}

// ready prepares the shared chain, and puts segments aside, whenever there is need, until ctx
// ends. Each step has a time of its own, so a slow store does not refuse every append. What fails
// is tried again. An append reports that it fails.
func (l *Log) ready(ctx context.Context) {
	sink := l.sinks[0] // the store's
	for l.shared.rouse(); ; {
		select {
		case <-ctx.Done():
			return
		case <-l.shared.wake:
		}
		err := l.within(ctx, func(ctx context.Context) error {
			k, err := l.keys(ctx)
			if err != nil {
				return err
			}
			_, err = sink.use(ctx, func(ctx context.Context) ([]Head, error) { return nil, l.shared.prepare(ctx, k) })
			return err
		})
		for seg, ok := l.shared.next(); ok && err == nil; seg, ok = l.shared.next() {
			err = l.within(ctx, func(ctx context.Context) error { return l.shared.putAside(ctx, seg) })
		}
		if err == nil {
			continue
		}
		l.cfg.Log.Debug("the audit log's record in the store cannot be looked after", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			l.shared.rouse()
		}
	}
}

// within calls f with a time of its own, whether f heeds it or not.
func (l *Log) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := giveUp(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}
