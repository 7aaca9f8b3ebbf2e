// Package nats carries events over a NATS connection, and offers the NATS service that starts a
// rotation.
//
// Its rules:
//
//   - The connection belongs to the caller.
//   - Anybody who may publish can send an event. So sizes are bounded, and what is not an event
//     is dropped and counted.
//   - A slow reader loses events. It never slows down the others.
//
// It does not know what a rotation is: it calls a function.
package nats

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/events"
)

// maxEvent is how many bytes of JSON an event may have. Those of this project have some hundred.
const maxEvent = 8 << 10

// A subscription may hold these for a slow reader, in messages and bytes. NATS drops what is
// beyond, as events may be.
const (
	maxPendingMessages = 4096
	maxPendingBytes    = 4 << 20
)

// Bus publishes and receives events over one connection, which belongs to the caller. It is safe
// for concurrent use.
type Bus struct {
	conn *nats.Conn
	log  *slog.Logger

	published, lost, received, dropped atomic.Uint64
}

// New returns a bus. While conn is not connected, published events wait in its reconnect buffer. A
// write that hangs is given up after its FlusherTimeout, which should be short.
func New(conn *nats.Conn, log *slog.Logger) *Bus { return &Bus{conn: conn, log: log} }

// Publish implements [events.Publisher].
func (b *Bus) Publish(e events.Event) {
	data, err := json.Marshal(e)
	if err == nil && len(data) > maxEvent {
		err = fmt.Errorf("%d bytes, at most %d", len(data), maxEvent)
	}
	if err == nil {
		err = b.conn.Publish(e.Subject(), data)
	}
	if err != nil {
		b.lost.Add(1)
		b.log.Warn("event not published; others see the change at their next refresh", "subject", e.Subject(), "err",
			err)
		return
	}
	b.published.Add(1)
}

// Subscribe calls fn for each event, one after the other, until stop is called. The bus's own
// events are among them. A call that has begun may outlast stop. What is not an event is dropped
// and counted.
func (b *Bus) Subscribe(fn func(events.Event)) (stop func(), err error) {
	sub, err := b.conn.Subscribe(events.Subjects, func(m *nats.Msg) {
		e, err := decode(m.Data)
		if err != nil {
			b.dropped.Add(1)
			b.log.Debug("event dropped", "subject", m.Subject, "err", err)
			return
		}
		b.received.Add(1)
		fn(e)
	})
	if err != nil {
		return nil, fmt.Errorf("events: subscribing to %s: %w", events.Subjects, err)
	}
	if err := sub.SetPendingLimits(maxPendingMessages, maxPendingBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("events: limiting %s: %w", events.Subjects, err), sub.Unsubscribe())
	}
	// It fails only if the connection is gone, and the subscription with it.
	return func() { _ = sub.Unsubscribe() }, nil
}

// Counts counts what went through a bus since it was made.
type Counts struct {
	Published uint64 // given to NATS
	Lost      uint64 // could not be given to NATS
	Received  uint64 // read, by all subscribers
	Dropped   uint64 // received, but not an event
}

// Counts returns the counts so far.
func (b *Bus) Counts() Counts {
	return Counts{b.published.Load(), b.lost.Load(), b.received.Load(), b.dropped.Load()}
}

// decode reads an event that anybody may have sent. Unknown fields and kinds are let through,
// since later versions may have them.
func decode(data []byte) (events.Event, error) {
	var e events.Event
	if len(data) > maxEvent {
		return e, fmt.Errorf("%d bytes, at most %d", len(data), maxEvent)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return events.Event{}, err
	}
	if e.Kind == "" {
		return events.Event{}, errors.New("no kind")
	}
	return e, nil
}
