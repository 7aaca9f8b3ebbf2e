// Package bus is NATS as lockstepd uses it: the embedded server, or a connection to another one.
// It publishes and delivers wake-ups, and answers requests for a rotation. What a wake-up means
// is decided by who handles it.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/natsd"
	"github.com/lockstep-tls/lockstep/events"
	eventsnats "github.com/lockstep-tls/lockstep/events/nats"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
)

// Config of a [Bus].
type Config struct {
	Events  string // URL of a NATS server, or embedded
	Listen  string // address of the embedded server for others; empty: none
	Token   string // of its clients
	Replica string // names the connection
	Log     *slog.Logger
}

// Bus is connected, or tries to be.
type Bus struct {
	*eventsnats.Bus
	server  *natsd.Server // nil: events go over another server
	conn    *nats.Conn
	service *nats.Conn // of the rotate service; it may only answer
	opened  time.Time
}

// connectsWithin is how long a connection may take after the start before that is a fault.
const connectsWithin = 3 * time.Second

// Open starts the embedded server, or connects to another one. A server that is down is no error.
func Open(c Config) (b *Bus, err error) {
	b = &Bus{opened: time.Now()}
	defer func() {
		if err != nil {
			b.Close()
			err = fmt.Errorf("events: %w", err)
		}
	}()
	if c.Events == "embedded" {
		if b.server, err = natsd.New(natsd.Config{Listen: c.Listen, Token: c.Token, Log: c.Log}); err != nil {
			return b, err
		}
		if b.conn, err = b.server.Connect(); err != nil {
			return b, err
		}
		if b.service, err = b.server.ConnectService(); err != nil {
			return b, err
		}
	} else {
		b.conn, err = nats.Connect(c.Events, nats.Name("lockstepd "+c.Replica),
			nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second),
			nats.FlusherTimeout(time.Second), nats.Timeout(2*time.Second),
			// A server that is cut off says nothing. It is missed after 4 to 6 s, and left for
			// another one. With the client's defaults that takes minutes.
			nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2))
		if err != nil {
			if unread := new(url.Error); errors.As(err, &unread) { // its text has the password
				err = natsd.ErrURL
			}
			return b, err
		}
		b.service = b.conn
	}
	b.Bus = eventsnats.New(b.conn, c.Log)
	return b, nil
}

// Run serves NATS if the server is embedded, calls heard with each event, and has rolls answer
// requests for a rotation, until ctx ends.
func (b *Bus) Run(ctx context.Context, heard func(events.Event), rolls *fleet.Coordinator) error {
	g, ctx := errgroup.WithContext(ctx)
	if b.server != nil {
		g.Go(func() error { return b.server.Run(ctx) })
	}
	stop, err := b.Subscribe(heard)
	if err != nil {
		return err
	}
	g.Go(func() error {
		return eventsnats.Serve(ctx, b.service, func(ctx context.Context, scope, by string) (eventsnats.Reply, error) {
			return rotate(ctx, rolls, scope, by)
		})
	})
	err = g.Wait()
	stop()
	return err
}

func rotate(ctx context.Context, rolls *fleet.Coordinator, scope, by string) (eventsnats.Reply, error) {
	before, err := rolls.Status(scope)
	var n uint64
	if err == nil {
		n, err = rolls.Rotate(ctx, scope, rotation.Request{By: by, Why: "requested over NATS"})
	}
	err = advice.Add(err)
	switch {
	case errors.Is(err, keysource.ErrNotExist):
		return eventsnats.Reply{}, fmt.Errorf("%w: %w", eventsnats.ErrUnknownScope, err)
	case errors.Is(err, rotation.ErrRefused):
		return eventsnats.Reply{}, fmt.Errorf("%w: %w", eventsnats.ErrRefused, err)
	case err != nil:
		return eventsnats.Reply{}, err
	}
	message := "the rotation has begun"
	if before.Underway && n == before.Begun {
		message = fmt.Sprintf("rotation %d is under way already, and is joined: nothing was changed", n)
	}
	return eventsnats.Reply{Scope: scope, Rotation: n, Version: rolls.Version(scope), Message: message}, nil
}

// Connected reports whether events flow.
func (b *Bus) Connected() bool { return b.conn.IsConnected() }

// Down returns why events do not flow. It is nil while they do, and in the first moments, in which
// the connection is made.
func (b *Bus) Down() error {
	if !b.Connected() && time.Since(b.opened) > connectsWithin {
		return errors.Join(errors.New("not connected to NATS"), b.conn.LastError())
	}
	return nil
}

// Close ends the connections.
func (b *Bus) Close() {
	for _, c := range []*nats.Conn{b.conn, b.service} {
		if c != nil {
			c.Close()
		}
	}
}
