package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-tls/lockstep/store"
)

// How long a request is waited for where the caller's context does not end earlier. A read is asked
// again meanwhile: the server that had it may be gone.
const (
	patience = 5 * time.Second
	attempt  = 2 * time.Second
	between  = 100 * time.Millisecond
)

// streamNotMatch is the server's code for a message to another incarnation of the stream (its
// errors.json, 10060).
const streamNotMatch jetstream.ErrorCode = 10060

// answer is what all answers of the JetStream API have.
type answer struct {
	Error *jetstream.APIError `json:"error"`
}

func (a *answer) failure() *jetstream.APIError { return a.Error }

// ask requests a read of the JetStream API ("STREAM.INFO.x") until it is answered, within patience.
// An error of the API is in what is returned.
func ask[A any, P interface {
	*A
	failure() *jetstream.APIError
}](ctx context.Context, s *Store, api string, req any) (a A, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return a, fmt.Errorf("store: %w", err)
	}
	err = s.persist(ctx, func(ctx context.Context) (again bool, err error) {
		m, err := s.conn.RequestWithContext(ctx, s.api+api, body)
		if err != nil {
			return true, err
		}
		a = *new(A)
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return false, fmt.Errorf("store: the answer to %s: %w", api, err)
		}
		e := P(&a).failure()
		if e == nil {
			return false, nil
		}
		err = s.explain(ctx, e)
		return e.Code == 503 || errors.Is(err, errUnsure), err // 503: no leader at the moment
	})
	return a, err
}

// persist calls try, each time with a context of attempt, until it does not ask to be called again,
// or patience or ctx ends.
func (s *Store) persist(ctx context.Context, try func(context.Context) (again bool, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var said error // the last error that says more than that time ran out
	for {
		one, done := context.WithTimeout(bounded, attempt)
		again, err := try(one)
		done()
		if err != nil {
			if denied := s.unanswered(err); denied != nil {
				return denied
			}
		}
		if !again || errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			said = err
		}
		select {
		case <-bounded.Done():
			err := cmp.Or(said, err) // patience may have ended the last attempt early
			if ctx.Err() != nil {
				return fmt.Errorf("store: NATS did not answer in time: %w (last: %v)", ctx.Err(), err)
			}
			if advice := s.advice(err); advice != "" {
				return fmt.Errorf("store: %w: %s", err, advice)
			}
			return fmt.Errorf("store: NATS did not answer within %v: are its servers up, a majority of them? Last: %w",
				patience, err)
		case <-time.After(between/2 + rand.N(between)): // not in step with the other replicas
		}
	}
}

// errUnsure: a server says that the stream is not there, and the one that leads all does not.
var errUnsure = errors.New("store: a NATS server does not know the stream yet")

// explain says what an error of the API means for the store. A server that has just been started
// may not know the stream yet, so whether it is gone is asked of the one that leads all.
func (s *Store) explain(ctx context.Context, err error) error {
	var e *jetstream.APIError
	if !errors.As(err, &e) || e.ErrorCode != jetstream.JSErrCodeStreamNotFound && e.ErrorCode != streamNotMatch {
		return err
	}
	names, nerr := s.names(ctx)
	if nerr != nil || slices.Contains(names, s.stream()) {
		return fmt.Errorf("%w: %w", errUnsure, cmp.Or(nerr, err))
	}
	return fmt.Errorf("store: stream %s is gone from NATS: %w (%v)", s.stream(), store.ErrLost, e)
}

// info asks the leader of the stream about it.
func (s *Store) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	a, err := ask[infoAnswer](ctx, s, "STREAM.INFO."+s.stream(), nil)
	if err != nil {
		return nil, err
	}
	s.see(a.State.LastSeq)
	s.mind(a.Config)
	return &a.StreamInfo, nil
}

type infoAnswer struct {
	answer
	jetstream.StreamInfo
}

// failure also finds an answer of somebody who is not the leader: where there is none, others say
// what they have.
func (a *infoAnswer) failure() *jetstream.APIError {
	c := a.Cluster
	if a.Error != nil || c == nil {
		return a.Error
	}
	if c.Leader == "" || slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool {
		return p.Name == c.Leader
	}) {
		return &jetstream.APIError{Code: 503, Description: "the stream has no leader"}
	}
	return nil
}

// message is a stored value or delete.
type message struct {
	subject string
	seq     uint64
	data    []byte
	deleted bool
}

// query asks for one message: the last of a subject, or the first from Seq on whose subject matches
// Next.
type query struct {
	Last string `json:"last_by_subj,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
	Seq  uint64 `json:"seq,omitempty"`

	Batch    int `json:"batch,omitempty"` // for page
	MaxBytes int `json:"max_bytes,omitempty"`
}

type loadAnswer struct {
	answer
	Message struct {
		Subject string `json:"subject"`
		Seq     uint64 `json:"seq"`
		Data    []byte `json:"data"`
		Header  []byte `json:"hdrs"`
	} `json:"message"`
}

// load asks the leader of the stream, who has applied every write that was acknowledged. found is
// false where it has none.
func (s *Store) load(ctx context.Context, q query) (m message, found bool, err error) {
	at := place{s.stream(), q.Last}
	if m, found, err = s.loadOnce(ctx, at.stream, q); err != nil || q.Last == "" || m.seq >= s.newest.of(at) {
		return m, found, err
	}
	// there are two leaders, and the real one answers, too
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return message{}, false, fmt.Errorf("store: NATS answers from the past "+
				"(message %d of %s, which was at %d): %w; it is a server that is cut off from the others, "+
				"or a cluster that was put back from a backup; for the latter, restart lockstepd",
				m.seq, q.Last, s.newest.of(at), ctx.Err())
		case <-time.After(between / 5):
		}
		again, foundAgain, err := s.loadOnce(ctx, at.stream, q)
		if ctx.Err() != nil {
			continue
		}
		if m, found = again, foundAgain; err != nil || m.seq >= s.newest.of(at) {
			return m, found, err
		}
	}
}

// loadOnce is load by whoever takes itself for the leader.
func (s *Store) loadOnce(ctx context.Context, stream string, q query) (m message, found bool, err error) {
	a, err := ask[loadAnswer](ctx, s, "STREAM.MSG.GET."+stream, q)
	var e *jetstream.APIError
	if errors.As(err, &e) && e.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return message{}, false, nil
	}
	if err != nil {
		return message{}, false, err
	}
	header, err := nats.DecodeHeadersMsg(a.Message.Header)
	if err != nil && len(a.Message.Header) > 0 {
		return message{}, false,
			fmt.Errorf("store: the header of message %d of stream %s: %w", a.Message.Seq, stream, err)
	}
	s.see(a.Message.Seq)
	if q.Last != "" {
		s.newest.note(place{stream, q.Last}, a.Message.Seq)
	}
	return message{a.Message.Subject, a.Message.Seq, a.Message.Data, isDelete(header)}, true, nil
}
