package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// This is the service that starts a rotation, as `nats micro ls` lists it.
const (
	serviceName    = "lockstep-rotate"
	serviceVersion = "1.0.0" // of the request and the reply, not of the program
	rotatePrefix   = "lockstep.rotate."
)

// rotateTimeout is how long one request may take. The nats command waits 5 s for its answer.
const rotateTimeout = 4 * time.Second

// A rotate function wraps these errors. Their text goes to the requester.
var (
	// ErrUnknownScope is answered with code 404.
	ErrUnknownScope = errors.New("unknown scope")
	// ErrRefused is answered with code 409: the scope is busy, or the policy refuses it.
	ErrRefused = errors.New("refused")
)

// Reply is the answer to a request, in JSON.
type Reply struct {
	Scope    string `json:"scope"`
	Rotation uint64 `json:"rotation"` // the number of the rotation that began
	Version  string `json:"version"`  // of the ring that it began with
	Message  string `json:"message"`
}

// Serve answers requests on lockstep.rotate.<scope> until ctx ends. If there are several servers,
// one of them answers. rotate begins a rotation. It is called for one request at a time, never
// after Serve has returned. by is "NATS", since the connection does not say who asked. An error
// that wraps [ErrUnknownScope] or [ErrRefused] is answered with its code, any other with 500.
//
// A requester chooses the subject of the answer. So conn should be allowed to publish answers
// only.
func Serve(ctx context.Context, conn *nats.Conn,
	rotate func(ctx context.Context, scope, by string) (Reply, error)) error {
	calls, cancel := context.WithCancel(ctx)
	var call sync.Mutex // held by the call under way
	defer func() {
		cancel()
		call.Lock() // wait for it; requests that NATS still delivers find calls ended
		defer call.Unlock()
	}()
	done := make(chan struct{})
	service, err := micro.AddService(conn, micro.Config{
		Name:        serviceName,
		Version:     serviceVersion,
		Description: "starts a rotation of the session ticket keys of a scope: request " + rotatePrefix + "<scope>",
		DoneHandler: func(micro.Service) { close(done) },
	})
	if err != nil {
		return fmt.Errorf("events: service %s: %w", serviceName, err)
	}
	err = service.AddEndpoint("rotate", micro.HandlerFunc(func(req micro.Request) {
		call.Lock()
		defer call.Unlock()
		answer(calls, req, rotate)
	}), micro.WithEndpointSubject(rotatePrefix+"*"))
	if err != nil {
		return errors.Join(fmt.Errorf("events: service %s: %w", serviceName, err), service.Stop())
	}
	select {
	case <-ctx.Done():
		return service.Stop()
	case <-done:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("events: service %s ended: the connection was closed", serviceName)
	}
}

func answer(ctx context.Context, req micro.Request,
	rotate func(ctx context.Context, scope, by string) (Reply, error)) {
	// An answer that cannot be sent shows in the service's statistics. The requester sees a
	// timeout.
	if ctx.Err() != nil {
		_ = req.Error("500", "this server is stopping; nothing was rotated, ask again", nil)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rotateTimeout)
	defer cancel()
	reply, err := rotate(ctx, strings.TrimPrefix(req.Subject(), rotatePrefix), "NATS")
	switch {
	case err == nil:
		_ = req.RespondJSON(reply)
	case errors.Is(err, ErrUnknownScope):
		_ = req.Error("404", err.Error(), nil)
	case errors.Is(err, ErrRefused):
		_ = req.Error("409", err.Error(), nil)
	default:
		_ = req.Error("500", err.Error(), nil)
	}
}
