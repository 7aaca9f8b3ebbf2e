// Package natsd is the NATS server inside lockstepd. It carries events between lockstepd's own
// parts. If it has an address, others may follow the events and ask for a rotation, and do nothing
// else.
package natsd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// These limit the server. What is published here are wake-ups of some hundred bytes.
const (
	maxPayload     = 16 << 10 // bytes
	maxConnections = 256
	maxSubs        = 32 // maxSubs is for one connection. Those of lockstepd need 10.
	maxPending     = 1 << 20
	authTimeout    = 2 * time.Second
	writeDeadline  = 5 * time.Second
	startTimeout   = 10 * time.Second
)

// Config is what a [Server] needs.
type Config struct {
	// Listen is host:port for other processes. Without it there is no port. Port 0 is any.
	Listen string
	// Token authenticates them, as in nats://TOKEN@host:port. It has 16 bytes at least.
	Token string
	TLS   *tls.Config // TLS is nil for plaintext, which only a loopback address may have.
	Log   *slog.Logger
}

const minToken = 16 // bytes

// Server is an embedded NATS server without JetStream.
type Server struct {
	srv    *server.Server
	listen string
	log    *logger
	own    ownTokens
	ready  chan struct{}

	stopping atomic.Bool // stopping is true once the server is to stop.
}

// New checks the configuration. It starts nothing.
func New(c Config) (*Server, error) {
	s := &Server{
		listen: c.Listen,
		log:    &logger{log: c.Log, fatal: make(chan string, 1)},
		own:    ownTokens{bus: rand.Text(), service: rand.Text()},
		ready:  make(chan struct{}),
	}
	opts := &server.Options{
		ServerName:                 "lockstepd",
		DontListen:                 true,
		NoSigs:                     true,
		NoSystemAccount:            true,
		MaxPayload:                 maxPayload,
		MaxConn:                    maxConnections,
		MaxSubs:                    maxSubs,
		MaxPending:                 maxPending,
		MaxControlLine:             2048,
		AuthTimeout:                authTimeout.Seconds(),
		WriteDeadline:              writeDeadline,
		CustomClientAuthentication: authenticator{own: s.own, client: c.Token},
	}
	if c.Listen != "" {
		if len(c.Token) < minToken {
			return nil, fmt.Errorf("natsd: listening on %s needs a token of at least %d bytes", c.Listen, minToken)
		}
		host, port, err := splitListen(c.Listen, c.TLS != nil)
		if err != nil {
			return nil, err
		}
		opts.DontListen, opts.Host, opts.Port = false, host, port
		if opts.TLSConfig = c.TLS; c.TLS != nil {
			opts.TLS, opts.TLSTimeout = true, authTimeout.Seconds()
		}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("natsd: %w", err)
	}
	srv.SetLoggerV2(s.log, c.Log.Enabled(context.Background(), slog.LevelDebug), false, false)
	s.srv = srv
	return s, nil
}

// Run serves until ctx ends. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.srv.WaitForShutdown()
	defer s.srv.Shutdown()
	defer s.stopping.Store(true)
	if ctx.Err() != nil {
		return nil
	}
	s.srv.Start() // returns when it listens, or has said why not
	select {
	case words := <-s.log.fatal:
		return fmt.Errorf("natsd: %s: %s", s.listen, words)
	default:
	}
	if !s.srv.ReadyForConnections(startTimeout) {
		return fmt.Errorf("natsd: %s: not ready after %v", s.listen, startTimeout)
	}
	close(s.ready)
	select {
	case <-ctx.Done():
		return nil
	case words := <-s.log.fatal:
		return fmt.Errorf("natsd: %s: %s", s.listen, words)
	}
}

// Ready is closed when the server accepts connections.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where the server listens. It is nil before Ready, and if the server does not listen.
func (s *Server) Addr() net.Addr {
	select {
	case <-s.ready:
		return s.srv.Addr()
	default:
		return nil
	}
}

// splitListen reads host:port, and refuses plaintext on anything but a loopback address.
func splitListen(listen string, encrypted bool) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(listen)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err == nil && (port < 0 || port > 65535) {
		err = errors.New("no such port")
	}
	if err != nil {
		return "", 0, fmt.Errorf("natsd: %q is not an address such as 127.0.0.1:4222: %v", listen, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if ip := net.ParseIP(host); !encrypted && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf(
			"natsd: %s is not a loopback address, and NATS in plaintext would show the token to the network: "+
				"listen on 127.0.0.1, or give TLS files", listen)
	}
	return host, port, nil
}
