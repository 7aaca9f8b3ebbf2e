package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/natsd"
	"github.com/lockstep-tls/lockstep/events"
	eventsnats "github.com/lockstep-tls/lockstep/events/nats"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
)

// bus is NATS as the daemon uses it: the embedded server, or a connection to another.
type bus struct {
	*eventsnats.Bus
	server  *natsd.Server // nil: events go over another server
	conn    *nats.Conn
	service *nats.Conn // the rotate service's; may only answer where the server is ours
}

func newBus(c config.Config, data *dataDir, log *slog.Logger) (b *bus, err error) {
	b = &bus{}
	defer func() {
		if err != nil {
			b.close()
			err = fmt.Errorf("events: %w", err)
		}
	}()
	if c.Events == "embedded" {
		if b.server, err = natsd.New(natsd.Config{Listen: c.NATSListen, Token: data.nats, Log: log}); err != nil {
			return b, err
		}
		if b.conn, err = b.server.Connect(); err != nil {
			return b, err
		}
		if b.service, err = b.server.ConnectService(); err != nil {
			return b, err
		}
	} else {
		b.conn, err = nats.Connect(c.Events, nats.Name("lockstepd "+data.replica), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
			nats.ReconnectWait(time.Second), nats.FlusherTimeout(time.Second), nats.Timeout(2*time.Second),
			// A server that is cut off says nothing: it is left for another one, and missed, after 4 to 6 s. By default that takes minutes.
			nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2))
		if err != nil {
			return b, err
		}
		b.service = b.conn
	}
	b.Bus = eventsnats.New(b.conn, log)
	return b, nil
}

// run serves NATS, wakes those who should look again, and answers requests for a rotation.
func (b *bus) run(ctx context.Context, d *Daemon) error {
	g, ctx := errgroup.WithContext(ctx)
	if b.server != nil {
		g.Go(func() error { return b.server.Run(ctx) })
	}
	stop, err := b.Subscribe(func(e events.Event) {
		switch e.Kind {
		case events.Rotation:
			d.rolls.Poke(e.Scope)
		case events.Cert:
			d.certs.Wake()
			if d.trials != nil {
				d.trials.Wake() // it may have been released
			}
		case events.Host:
			if d.listeners != nil {
				d.listeners.eager.Wake()
			}
		case events.Cured, events.Refused:
			if e.By != d.data.replica {
				d.healer.Heard(e.Name, e.Kind == events.Cured)
			}
		}
	})
	if err != nil {
		return err
	}
	g.Go(func() error {
		return eventsnats.Serve(ctx, b.service, func(ctx context.Context, scope, by string) (eventsnats.Reply, error) {
			return rotateByRequest(ctx, d.rolls, scope, by)
		})
	})
	err = g.Wait()
	stop()
	return err
}

func rotateByRequest(ctx context.Context, rolls *fleet.Coordinator, scope, by string) (eventsnats.Reply, error) {
	n, err := rolls.Rotate(ctx, scope, rotation.Request{By: by, Why: "requested over NATS"})
	switch {
	case errors.Is(err, keysource.ErrNotExist):
		return eventsnats.Reply{}, fmt.Errorf("%w: %w", eventsnats.ErrUnknownScope, err)
	case errors.Is(err, rotation.ErrRefused):
		return eventsnats.Reply{}, fmt.Errorf("%w: %w", eventsnats.ErrRefused, err)
	case err != nil:
		return eventsnats.Reply{}, err
	}
	return eventsnats.Reply{Scope: scope, Rotation: n, Version: rolls.Version(scope), Message: "the rotation has begun"}, nil
}

// down says why events do not flow; nil while they do.
func (b *bus) down() error {
	if !b.conn.IsConnected() {
		return errors.Join(errors.New("not connected to NATS"), b.conn.LastError())
	}
	return nil
}

func (b *bus) close() {
	for _, c := range []*nats.Conn{b.conn, b.service} {
		if c != nil {
			c.Close()
		}
	}
}
