package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrURL says that a URL of a NATS server cannot be read. It does not show it, as it may have a
// password.
var ErrURL = errors.New("a URL of a NATS server cannot be read: " +
	"write @ : / and % of a user or password as %40 %3A %2F %25")

// Connect returns lockstepd's connection for events, which may do everything. It may be called
// before Run, and connects once Run runs. The caller closes it.
func (s *Server) Connect() (*nats.Conn, error) { return s.connect("lockstepd", s.own.bus) }

// ConnectService returns the connection for the rotate service, which may only answer. Otherwise it
// is like Connect.
func (s *Server) ConnectService() (*nats.Conn, error) {
	return s.connect("lockstepd-rotate", s.own.service)
}

func (s *Server) connect(name, token string) (*nats.Conn, error) {
	conn, err := nats.Connect("",
		nats.InProcessServer(s.srv),
		nats.Name(name),
		nats.Token(token),
		nats.CustomInboxPrefix(ownInbox),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20*time.Millisecond),
		nats.FlusherTimeout(time.Second), // an event is not worth more
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			level := slog.LevelWarn
			if errors.Is(err, nats.ErrPermissionViolation) {
				// a client named an odd subject for its answer
				level = slog.LevelDebug
			}
			s.log.log.Log(context.Background(), level, "nats connection", "connection", name, "err", err)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("natsd: connecting to the embedded server: %w", err)
	}
	return conn, nil
}
