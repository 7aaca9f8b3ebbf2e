package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-tls/lockstep/store"
)

// The mark of a delete, as in NATS KV.
const (
	markHeader = "KV-Operation"
	markDelete = "DEL"
)

func isDelete(h nats.Header) bool { return h.Get(markHeader) == markDelete }

// Swap implements [store.Store]. It returns when a majority of the stream's replicas has the
// change.
func (s *Store) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	subject, err := s.subject(key)
	if err != nil {
		return 0, err
	}
	conflict := fmt.Errorf("%w: %s is not at revision %d", store.ErrConflict, key, old)
	if ofDelete(old) { // no value has such a revision
		return 0, conflict
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	expected := sequence(old)
	for {
		if old == 0 && val == nil {
			return s.deleteNothing(ctx, subject, conflict)
		}
		seq, err := s.publish(ctx, subject, expected, val)
		switch {
		case err == nil:
			return rev(seq, val == nil), nil
		case errors.Is(err, nats.ErrMaxPayload):
			return 0, fmt.Errorf("store: %s: a value of %d bytes: raise max_payload of the NATS servers: %w",
				key, len(val), err)
		case s.full(key, err) != nil:
			return 0, s.full(key, err)
		case !isConflict(err):
			if denied := s.unanswered(err); denied != nil {
				err = denied
			}
			return 0, unknown(outer, key, err)
		}
		// The leader also refuses while another write of the key is under way, and that one may
		// come to nothing. So what is there has the word; and where no value was expected, it may
		// be a delete.
		m, found, err := s.load(ctx, query{Last: subject})
		switch value := found && !m.deleted; {
		case err != nil:
			return 0, unknown(outer, key, err)
		case old == 0 && value, old != 0 && (!value || m.seq != expected):
			return 0, conflict
		case found && m.seq != expected:
			expected = m.seq
			continue
		}
		select {
		case <-ctx.Done():
			return 0, unknown(outer, key, ctx.Err())
		case <-time.After(between / 10):
		}
	}
}

// deleteNothing answers the delete of a key that is expected not to be there.
func (s *Store) deleteNothing(ctx context.Context, subject string, conflict error) (store.Rev, error) {
	m, found, err := s.load(ctx, query{Last: subject})
	if err != nil {
		return 0, err
	}
	if found && !m.deleted {
		return 0, conflict
	}
	info, err := s.info(ctx)
	if err != nil {
		return 0, err
	}
	return upTo(info.State.LastSeq), nil
}

// publish writes val, or the mark of a delete, if the last message of subject has the sequence
// expected. It is tried again only where nothing was sent, or nobody was there to get it.
func (s *Store) publish(ctx context.Context, subject string, expected uint64, val []byte) (uint64, error) {
	for {
		msg := &nats.Msg{Subject: subject, Data: val, Header: nats.Header{}}
		if val == nil {
			msg.Header.Set(markHeader, markDelete)
		}
		ack, err := s.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(s.stream()),
			jetstream.WithExpectLastSequencePerSubject(expected),
			jetstream.WithRetryAttempts(0))
		if err == nil {
			s.see(ack.Sequence)
			s.newest.note(place{ack.Stream, subject}, ack.Sequence)
			return ack.Sequence, nil
		}
		switch {
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			// nobody has this subject: no leader at the moment, or no stream
			if _, err := s.info(ctx); err != nil {
				return 0, err
			}
		case errors.Is(err, nats.ErrReconnectBufExceeded): // not connected
		default:
			return 0, s.explain(ctx, err)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(between):
		}
	}
}

func isConflict(err error) bool {
	var e *jetstream.APIError
	return errors.As(err, &e) &&
		(e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// unknown is the error of a write of which nobody knows whether it was done.
func unknown(ctx context.Context, key string, err error) error {
	switch {
	case errors.Is(err, store.ErrLost):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("store: writing %s, with an unknown outcome: %w (%v)", key, ctx.Err(), err)
	}
	return fmt.Errorf("store: writing %s, with an unknown outcome: %w", key, err)
}
