package natsd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/lockstep-tls/lockstep/cmd/internal/natsd"
	"github.com/lockstep-tls/lockstep/events"
	eventsnats "github.com/lockstep-tls/lockstep/events/nats"
)

// client is another process's connection, and what the server told it off for.
type client struct {
	*nats.Conn
	told chan error
}

func dial(t *testing.T, s *natsd.Server) client {
	t.Helper()
	c := client{told: make(chan error, 100)}
	var err error
	c.Conn, err = nats.Connect("nats://"+token+"@"+s.Addr().String(), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.told <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// refused checks that the server told the client off, for a subject.
func (c client) refused(t *testing.T, what, subject string) {
	t.Helper()
	flush(t, c.Conn)
	select {
	case err := <-c.told:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
			t.Errorf("%s %s: %v, want a permissions violation", what, subject, err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("%s %s: the server did not refuse", what, subject)
	}
}

// everything subscribes lockstepd's own connection to all there is.
func everything(t *testing.T, s *natsd.Server) *nats.Subscription {
	t.Helper()
	conn := own(t, s.Connect)
	sub, err := conn.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, conn)
	return sub
}

func TestAClientCanPublishNothingElse(t *testing.T) {
	s := start(t, natsd.Config{Listen: "127.0.0.1:0", Token: token})
	all := everything(t, s)
	c := dial(t, s)
	for _, subject := range []string{
		"lockstep.events.rotation.default", "lockstep.events", "lockstep.rotate",
		"lockstep.rotate.a.b", "lockstep.x", "x",
		"_INBOX.x", "_LOCKSTEP.x", "$SRV.PONG", "$SRV.X", "$SRV", "$SYS.REQ.SERVER.PING",
		"$SYS.REQ.USER.INFO", "$JS.API.INFO", "$KV.x",
	} {
		if err := c.Publish(subject, []byte("v")); err != nil {
			t.Errorf("Publish(%s): %v", subject, err)
		}
		c.refused(t, "publish", subject)
	}
	// A header that makes the server publish a trace of the message.
	m := nats.NewMsg("lockstep.rotate.default")
	m.Header.Set("Nats-Trace-Dest", "lockstep.events.rotation.default")
	if err := c.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	flush(t, c.Conn)
	own(t, s.Connect).Publish("end", nil)
	for {
		m, err := all.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject == "end" {
			break
		}
		if m.Subject != "lockstep.rotate.default" {
			t.Errorf("%s came through", m.Subject)
		}
	}
}

func TestAClientCanSubscribeToNothingElse(t *testing.T) {
	s := start(t, natsd.Config{Listen: "127.0.0.1:0", Token: token})
	for _, subject := range []string{
		">", "*", "*.>", "lockstep.>", "lockstep.*.>", "lockstep.rotate.*",
		"lockstep.rotate.>", "lockstep.rotate.default",
		"_LOCKSTEP.>", "_LOCKSTEP.*", "_LOCKSTEP.x", "$SRV.>", "$SRV.PING", "$SYS.>", "$SYS.ACCOUNT.*.CONNECT", "$JS.>",
	} {
		c := dial(t, s)
		sub, err := c.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		c.refused(t, "subscribe", subject)
		ours := own(t, s.Connect)
		if !strings.ContainsAny(subject, "*>") {
			ours.Publish(subject, nil)
		}
		ours.Publish("lockstep.rotate.default", nil)
		ours.Publish("_LOCKSTEP.x", nil)
		flush(t, ours)
		flush(t, c.Conn)
		if n, _, _ := sub.Pending(); n != 0 {
			t.Errorf("subscribe %s: %d messages came", subject, n)
		}
	}
}

func TestOnlyTheTokenLetsIn(t *testing.T) {
	s := start(t, natsd.Config{Listen: "127.0.0.1:0", Token: token})
	addr := s.Addr().String()
	for name, opts := range map[string][]nats.Option{
		"no token":          nil,
		"empty token":       {nats.Token("")},
		"wrong token":       {nats.Token("client-token-9876543210")},
		"longer token":      {nats.Token(token + "x")},
		"part of the token": {nats.Token(token[:len(token)-1])},
		"as a user":         {nats.UserInfo(token, "")},
		"as a password":     {nats.UserInfo("client", token)},
		"lockstepd's user":  {nats.UserInfo("lockstepd", "")},
	} {
		conn, err := nats.Connect("nats://"+addr, append(opts, nats.NoReconnect())...)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want ErrAuthorization", name, err)
		}
	}
}

// wire is how lockstepd uses the server.
func wire(
	t *testing.T, s *natsd.Server, rotate func(ctx context.Context, scope, by string) (eventsnats.Reply, error),
) *eventsnats.Bus {
	t.Helper()
	conn := own(t, s.ConnectService)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- eventsnats.Serve(ctx, conn, rotate) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	asker := own(t, s.Connect)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := asker.Request("$SRV.PING", nil, time.Second); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	return eventsnats.New(asker, slog.New(slog.DiscardHandler))
}

func rotateDefault(_ context.Context, scope, _ string) (eventsnats.Reply, error) {
	if scope != "default" {
		return eventsnats.Reply{}, fmt.Errorf("%w %q", eventsnats.ErrUnknownScope, scope)
	}
	return eventsnats.Reply{Scope: scope, Rotation: 1, Message: "begun"}, nil
}

func TestAClientRotatesFollowsAndLists(t *testing.T) {
	s := start(t, natsd.Config{Listen: "127.0.0.1:0", Token: token})
	bus := wire(t, s, rotateDefault)
	c := dial(t, s)
	followed := make(chan events.Event, 10)
	if _, err := eventsnats.New(c.Conn,
		slog.New(slog.DiscardHandler)).Subscribe(func(e events.Event) { followed <- e }); err != nil {
		t.Fatal(err)
	}
	flush(t, c.Conn)
	bus.Publish(events.Event{Kind: events.Rotation, Scope: "default"})
	if e := <-followed; e.Scope != "default" {
		t.Errorf("followed %+v", e)
	}

	m, err := c.Request("lockstep.rotate.default", nil, 5*time.Second)
	if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "" ||
		!strings.Contains(string(m.Data), `"message":"begun"`) {
		t.Errorf("rotate: %+v, %v", m, err)
	}
	if m, err := c.Request("lockstep.rotate.none", nil, 5*time.Second); err != nil ||
		m.Header.Get(micro.ErrorCodeHeader) != "404" {
		t.Errorf("rotate an unknown scope: %+v, %v", m, err)
	}
	for _, subject := range []string{
		"$SRV.PING", "$SRV.INFO", "$SRV.INFO.lockstep-rotate", "$SRV.STATS", "$SRV.STATS.lockstep-rotate",
	} {
		m, err := c.Request(subject, nil, 5*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		var info micro.ServiceIdentity
		if err := json.Unmarshal(m.Data, &info); err != nil || info.Name != "lockstep-rotate" {
			t.Errorf("%s: %s", subject, m.Data)
		}
	}
	if len(c.told) != 0 {
		t.Errorf("told off: %v", <-c.told)
	}
}

// A requester names the subject of the answer: it must not be able to publish by it what it may not
// publish itself.
func TestAnAnswerIsNoWayToPublish(t *testing.T) {
	s := start(t, natsd.Config{Listen: "127.0.0.1:0", Token: token})
	wire(t, s, rotateDefault)
	c := dial(t, s)
	sub, err := c.SubscribeSync("lockstep.events.>")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{
		"lockstep.rotate.default", "lockstep.rotate.none", "$SRV.PING", "$SRV.INFO", "$SRV.STATS",
	} {
		if err := c.PublishRequest(subject, "lockstep.events.rotation.default", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Request("lockstep.rotate.default", nil, 5*time.Second); err != nil {
		// the service goes on, and has answered the others
		t.Fatal(err)
	}
	flush(t, c.Conn)
	if n, _, _ := sub.Pending(); n != 0 {
		m, _ := sub.NextMsg(time.Second)
		t.Errorf("%d answers were published as events: %s", n, m.Data)
	}
}

func TestAnOversizeMessageEndsItsConnectionOnly(t *testing.T) {
	s := start(t, natsd.Config{Listen: "127.0.0.1:0", Token: token})
	wire(t, s, rotateDefault)
	big, other := dial(t, s), dial(t, s)
	if err := big.Publish("lockstep.rotate.default", make([]byte, 17<<10)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("17 KiB: %v, want ErrMaxPayload", err)
	}
	if _, err := other.Request("lockstep.rotate.default", nil, 5*time.Second); err != nil {
		t.Error(err)
	}
}
