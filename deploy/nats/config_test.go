// Package nats_test runs lockstepd on nats-server with the sample configuration.
package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// sample runs nats-server with nats.conf and returns its address.
func sample(ctx context.Context, t *testing.T, f *fleet.Fleet) string {
	t.Helper()
	config, err := os.ReadFile("nats.conf")
	check(t, err)
	addr, err := fleet.Addr()
	check(t, err)
	text := string(config)
	for old, now := range map[string]string{"127.0.0.1:4222": addr, "/var/lib/nats": t.TempDir()} {
		if !strings.Contains(text, old) {
			t.Fatalf("there is no %q in it", old)
		}
		text = strings.ReplaceAll(text, old, now)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	check(t, os.WriteFile(file, []byte(text), 0o600))
	program, err := fleet.BuildNATS(ctx)
	check(t, err)
	var env []string
	for _, user := range []string{"STORE", "EVENTS", "ALICE", "BOB"} {
		env = append(env, "LOCKSTEP_"+user+"_PASSWORD="+strings.ToLower(user)+"-secret")
	}
	_, err = f.Start(fleet.Command{Name: "nats", Path: program, Args: []string{"-c", file}, Env: env})
	check(t, err)
	check(t, fleet.Until(ctx, func() error {
		conn, err := nats.Connect("nats://alice:alice-secret@" + addr)
		if err == nil {
			conn.Close()
		}
		return err
	}))
	return addr
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client is a user's connection, and what the server refused it.
type client struct {
	*nats.Conn
	refused chan error
}

func dial(t *testing.T, user, addr, inbox string) client {
	t.Helper()
	c := client{refused: make(chan error, 100)}
	var err error
	c.Conn, err = nats.Connect(fmt.Sprintf("nats://%s:%s-secret@%s", user, user, addr), nats.CustomInboxPrefix(inbox),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.refused <- err }))
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

// The answers to one client are read by no other, and would tell it nothing secret.
func TestNoClientReadsTheAnswersToAnother(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bin, err := fleet.Build(ctx, "lockstepd")
	check(t, err)
	f := fleet.ForTest(t)
	addr := sample(ctx, t, f)
	password := filepath.Join(t.TempDir(), "password")
	check(t, os.WriteFile(password, []byte("store-secret"), 0o600))
	plane, err := f.Lockstepd("plane", fleet.Lockstepd{Bin: bin, NATS: "-", Args: []string{
		"--kek", filepath.Join(t.TempDir(), "sealing.key"),
		"--store", "nats://store@" + addr + "?replicas=1&max_bytes=64MB&inbox_prefix=_INBOX.store&password_file=" +
			password,
		"--events", "nats://lockstepd:events-secret@" + addr,
	}})
	check(t, err)
	check(t, plane.Ready(ctx))

	alice, bob := dial(t, "alice", addr, "_INBOX.alice"), dial(t, "bob", addr, "_INBOX.bob")
	heard := make(chan *nats.Msg, 100)
	for _, subject := range []string{
		">", "*.>", "_INBOX.>", "_INBOX.*.>", "_INBOX.*.*.*", "_INBOX.alice.>", "_INBOX.store.>", "_INBOX.alice.*.*",
		"lockstep.>", "lockstep.events.>", "lockstep.rotate.*", "$JS.>", "$SRV.>",
	} {
		_, err := bob.ChanSubscribe(subject, heard)
		check(t, err)
		check(t, bob.FlushTimeout(5*time.Second))
		select {
		case err := <-bob.refused:
			if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
				t.Errorf("bob listens to %s: %v", subject, err)
			}
		case <-ctx.Done():
			t.Fatalf("bob listens to %s, and is not refused", subject)
		}
	}
	events, err := alice.SubscribeSync("lockstep.events.>")
	check(t, err)

	answer, err := alice.RequestWithContext(ctx, "lockstep.rotate.default", nil)
	check(t, err)
	var reply map[string]any
	check(t, json.Unmarshal(answer.Data, &reply))
	if got := slices.Sorted(maps.Keys(reply)); !slices.Equal(got, []string{"message", "rotation", "scope", "version"}) {
		t.Errorf("the answer has %q: %s", got, answer.Data)
	}
	if v, _ := reply["version"].(string); !regexp.MustCompile(`^g\d+-[0-9a-f]{12}$`).MatchString(v) ||
		reply["scope"] != "default" {
		t.Errorf("the answer is %s", answer.Data)
	}
	event, err := events.NextMsgWithContext(ctx)
	if err != nil {
		t.Errorf("alice follows no events: %v", err)
	}
	own, err := bob.RequestWithContext(ctx, "lockstep.rotate.default", nil) // it may be refused
	check(t, err)
	for _, m := range []*nats.Msg{answer, own, event} {
		if m != nil && (len(m.Data) > 1024 || strings.Contains(string(m.Data), "secret")) {
			t.Errorf("%s has %s", m.Subject, m.Data)
		}
	}
	check(t, bob.FlushTimeout(5*time.Second))
	select {
	case m := <-heard:
		t.Errorf("bob heard %s: %s", m.Subject, m.Data)
	default:
	}
	// Alice, to whom the test has looked, does read her own inbox.
	mine, err := alice.SubscribeSync("_INBOX.alice.>")
	check(t, err)
	_, err = alice.RequestWithContext(ctx, "$SRV.PING", nil)
	check(t, err)
	if _, err := mine.NextMsgWithContext(ctx); err != nil {
		t.Errorf("alice cannot read her own answers: %v", err)
	}
}
