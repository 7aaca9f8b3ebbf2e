package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startServer runs a NATS server in the process and returns a function that connects to it.
func startServer(t *testing.T) (connect func() *nats.Conn) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	return func() *nats.Conn {
		t.Helper()
		conn, err := nats.Connect("", nats.InProcessServer(srv))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
}

func flush(t *testing.T, conn *nats.Conn) {
	t.Helper()
	if err := conn.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestEventsReachAnotherProcess(t *testing.T) {
	connect := startServer(t)
	sender, receiver := New(connect(), slog.New(slog.DiscardHandler)), New(connect(), slog.New(slog.DiscardHandler))
	got := make(chan events.Event, 10)
	stop, err := receiver.Subscribe(func(e events.Event) { got <- e })
	if err != nil {
		t.Fatal(err)
	}
	flush(t, receiver.conn)

	want := events.Event{
		Kind: events.Rotation, Scope: "default", Name: "n", Version: "g7-0123456789ab", Phase: "promoting",
		Rotation: 7, Why: "period", By: "nats", At: time.Unix(1_700_000_000, 5).UTC(),
	}
	sender.Publish(want)
	if e := <-got; e != want {
		t.Errorf("got %+v, want %+v", e, want)
	}

	for _, bad := range []string{"", "{", "[]", `{}`, `{"kind":""}`, `{"kind":7}`, `{"kind":"ring","at":"noon"}`,
		`{"kind":"ring","why":"` + strings.Repeat("x", maxEvent) + `"}`} {
		if err := sender.conn.Publish("lockstep.events.rotation.default", []byte(bad)); err != nil {
			t.Fatal(err)
		}
	}
	sender.Publish(events.Event{Kind: events.Cert, Name: "last"})
	if e := <-got; e.Name != "last" {
		t.Errorf("what is not an event came through as %+v", e)
	}
	if c := receiver.Counts(); c.Received != 2 || c.Dropped != 8 {
		t.Errorf("counts %+v, want 2 received, 8 dropped", c)
	}

	stop()
	flush(t, receiver.conn)
	sender.Publish(events.Event{Kind: events.Cert})
	flush(t, sender.conn)
	flush(t, receiver.conn)
	if len(got) != 0 {
		t.Errorf("an event after stop: %+v", <-got)
	}
	if c := sender.Counts(); c.Published != 3 || c.Lost != 0 {
		t.Errorf("counts %+v, want 3 published", c)
	}
}

func TestPublishFailsNobody(t *testing.T) {
	var log bytes.Buffer
	bus := New(startServer(t)(), slog.New(slog.NewTextHandler(&log, nil)))
	bus.Publish(events.Event{Kind: events.Rotation, Why: strings.Repeat("x", maxEvent)})
	bus.conn.Close()
	bus.Publish(events.Event{Kind: events.Rotation, Scope: "default"})
	if c := bus.Counts(); c.Lost != 2 || c.Published != 0 {
		t.Errorf("counts %+v, want 2 lost", c)
	}
	if !strings.Contains(log.String(), "lockstep.events.rotation.default") {
		t.Errorf("the log does not say what was lost: %s", log.String())
	}
	if _, err := bus.Subscribe(func(events.Event) {}); err == nil {
		t.Error("subscribed on a closed connection")
	}
}

// serve runs Serve until the test ends.
func serve(t *testing.T, conn *nats.Conn, rotate func(ctx context.Context, scope, by string) (Reply, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- Serve(ctx, conn, rotate) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	// A service is listed a moment before it has its endpoint.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		var info micro.Info
		m, err := conn.Request("$SRV.INFO."+serviceName, nil, time.Second)
		if err == nil {
			err = json.Unmarshal(m.Data, &info)
		}
		if err == nil && len(info.Endpoints) > 0 {
			flush(t, conn) // the server knows of the endpoint now, too
			return
		} else if time.Now().After(end) {
			t.Fatalf("%v: listed as %+v", err, info)
		}
	}
}

func TestRotateService(t *testing.T) {
	connect := startServer(t)
	serve(t, connect(), func(ctx context.Context, scope, by string) (Reply, error) {
		if _, ok := ctx.Deadline(); !ok || by != "NATS" {
			t.Errorf("called by %q, deadline %v", by, ok)
		}
		switch scope {
		case "default":
			return Reply{scope, 3, "g9-0123456789ab", "distributing to 5 nodes"}, nil
		case "busy":
			return Reply{}, fmt.Errorf("%w: rotation 3 is under way", ErrRefused)
		case "broken":
			return Reply{}, errors.New("store: no space left\non device")
		}
		return Reply{}, fmt.Errorf("%w %q", ErrUnknownScope, scope)
	})
	client := connect()
	for _, c := range []struct{ scope, code, words string }{
		{"default", "", ""},
		{"busy", "409", "refused: rotation 3 is under way"},
		{"broken", "500", "store: no space left on device"},
		{"none", "404", `unknown scope "none"`},
	} {
		m, err := client.Request("lockstep.rotate."+c.scope, nil, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if code, words := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader); code != c.code ||
			strings.ReplaceAll(words, "\n", " ") != c.words {
			t.Errorf("%s: error %q %q, want %q %q", c.scope, code, words, c.code, c.words)
		}
		if c.code != "" {
			continue
		}
		const want = `{"scope":"default","rotation":3,"version":"g9-0123456789ab","message":"distributing to 5 nodes"}`
		if string(m.Data) != want {
			t.Errorf("reply %s, want %s", m.Data, want)
		}
	}
	if _, err := client.Request("lockstep.rotate.a.b", nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a subject of two tokens was answered: %v", err)
	}
}

func TestRotateServiceIsListed(t *testing.T) {
	connect := startServer(t)
	serve(t, connect(), func(context.Context, string, string) (Reply, error) { return Reply{}, nil })
	m, err := connect().Request("$SRV.INFO", nil, 5*time.Second) // what `nats micro ls` asks
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != "lockstep-rotate" || len(info.Endpoints) != 1 || info.Endpoints[0].Subject != "lockstep.rotate.*" {
		t.Errorf("listed as %+v", info)
	}
}

func TestOneOfSeveralServersAnswers(t *testing.T) {
	connect := startServer(t)
	calls := make(chan string, 100)
	for range 2 {
		serve(t, connect(), func(_ context.Context, scope, _ string) (Reply, error) {
			calls <- scope
			return Reply{}, nil
		})
	}
	client := connect()
	for range 20 {
		if _, err := client.Request("lockstep.rotate.default", nil, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if len(calls) != 20 {
		t.Errorf("%d rotations for 20 requests", len(calls))
	}
}

func TestServeWaitsForTheCallUnderWay(t *testing.T) {
	connect := startServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	began, ended, result := make(chan struct{}), false, make(chan error)
	conn := connect()
	go func() {
		result <- Serve(ctx, conn, func(ctx context.Context, _, _ string) (Reply, error) {
			close(began)
			<-ctx.Done() // it is told to stop
			time.Sleep(20 * time.Millisecond)
			ended = true // a race, if Serve did not wait
			return Reply{}, ctx.Err()
		})
	}()
	for conn.NumSubscriptions() < 10 {
		time.Sleep(time.Millisecond)
	}
	flush(t, conn) // the server knows of them now, too
	client := connect()
	answered := make(chan *nats.Msg)
	go func() {
		m, _ := client.Request("lockstep.rotate.default", nil, 5*time.Second)
		answered <- m
	}()
	<-began
	cancel()
	if err := <-result; err != nil || !ended {
		t.Errorf("Serve = %v, the call under way ended: %v", err, ended)
	}
	if m := <-answered; m == nil || m.Header.Get(micro.ErrorCodeHeader) != "500" {
		t.Errorf("the requester was told %+v", m)
	}
}

func TestServeEndsWithItsConnection(t *testing.T) {
	conn := startServer(t)()
	result := make(chan error)
	go func() {
		result <- Serve(t.Context(), conn,
			func(context.Context, string, string) (Reply, error) { return Reply{}, nil })
	}()
	for conn.NumSubscriptions() < 10 { // 9 of the service framework, and the endpoint
		time.Sleep(time.Millisecond)
	}
	conn.Close()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Serve = %v, want an error that says why", err)
	}
}

// FuzzDecode: whatever the bytes, decode answers or refuses; what it reads is written and read
// back the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"ring","scope":"default","version":"g1-0123456789ab","at":"2026-01-02T03:04:05.6Z"}`))
	f.Add([]byte(`{"kind":"x","rotation":18446744073709551615,"why":"\u0000<\ud800","at":"9999-12-31T23:59:59+23:59"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decode(data)
		if err != nil {
			return
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxEvent { // escapes may grow
			return
		}
		again, err := decode(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !again.At.Equal(e.At) {
			t.Fatalf("At %v reads back as %v", e.At, again.At)
		}
		again.At = e.At
		if again != e {
			t.Fatalf("%+v reads back as %+v", e, again)
		}
		if s := e.Subject(); strings.ContainsAny(s, " \t\r\n*>") || strings.Count(s, ".") != 3 {
			t.Fatalf("published on %q", s)
		}
	})
}
