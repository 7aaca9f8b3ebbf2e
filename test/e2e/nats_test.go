package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// outside connects to the control plane's NATS as another program does.
func (s *stage) outside(token string, options ...nats.Option) (*nats.Conn, error) {
	conn, err := nats.Connect("nats://"+s.plane.NATS,
		append(options, nats.Token(token), nats.Timeout(2*time.Second), nats.NoReconnect())...)
	if err == nil {
		s.t.Cleanup(conn.Close)
	}
	return conn, err
}

// TestNATSForOthers: with the token, a client follows the events and requests a rotation, and can
// do nothing else.
func TestNATSForOthers(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	b, err := os.ReadFile(s.plane.Data + "/nats.token")
	s.ok(err)
	token := strings.TrimSpace(string(b))

	denied := make(chan error, 16)
	conn, err := s.outside(token,
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	s.ok(err)
	sub, err := conn.SubscribeSync("lockstep.events.>")
	s.ok(err)
	s.ok(conn.Flush())

	reply, err := conn.Request("lockstep.rotate.default", nil, 5*time.Second)
	s.ok(err)
	var r struct {
		Scope, Version string
		Rotation       uint64
	}
	s.ok(json.Unmarshal(reply.Data, &r))
	if r.Scope != "default" || r.Rotation != 1 || !strings.HasPrefix(r.Version, "g") {
		t.Errorf("the reply: %s", reply.Data)
	}
	secrets := s.secretWords()
	for want := []string{"distributing", "promoting", "done"}; len(want) > 0; {
		m, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatalf("no event of phase %v: %v", want, err)
		}
		var e struct {
			Kind, Scope, Version, Phase, By string
			Rotation                        uint64
		}
		s.ok(json.Unmarshal(m.Data, &e))
		if m.Subject != "lockstep.events.rotation.default" || e.Scope != "default" {
			t.Errorf("%s: %s", m.Subject, m.Data)
		}
		for _, secret := range secrets {
			if strings.Contains(string(m.Data), secret) {
				t.Errorf("an event holds a secret: %s", m.Data)
			}
		}
		if e.Phase == want[0] && e.Rotation == 1 {
			want = want[1:]
		}
	}
	a.awaitKeyInUse()
	a.cross("a rotation by NATS")
	if by := s.history()[1].By; by != "NATS" {
		t.Errorf("asked for by %q", by)
	}

	reply, err = conn.Request("lockstep.rotate.nope", nil, 5*time.Second)
	s.ok(err)
	if code := reply.Header.Get("Nats-Service-Error-Code"); code != "404" ||
		!strings.Contains(reply.Header.Get("Nats-Service-Error"), "nope") {
		t.Errorf("an unknown scope is answered with %v", reply.Header)
	}

	// Nothing else: neither forged events nor a look at lockstepd's own subjects.
	before := s.scope()
	for _, subject := range []string{
		"lockstep.events.rotation.default", "lockstep.rotate", "lockstep.rotate.default.now", "anything",
	} {
		s.ok(conn.Publish(subject, []byte(`{"kind":"rotation","scope":"default"}`)))
		s.permissionDenied(denied, subject)
	}
	for _, subject := range []string{">", "lockstep.>", "lockstep.rotate.*", "_LOCKSTEP.>"} {
		_, err := conn.SubscribeSync(subject)
		s.ok(err)
		s.permissionDenied(denied, subject)
	}
	for _, wrong := range []string{"", "wrong", token + "x"} {
		if _, err := s.outside(wrong); err == nil {
			t.Errorf("token %q was let in", wrong)
		}
	}
	if after := s.scope(); !slices.Equal(after.ids(), before.ids()) || after.Version != before.Version {
		t.Errorf("%s became %s", before.Version, after.Version)
	}
	a.check("what is not allowed")
}

func (s *stage) permissionDenied(denied <-chan error, subject string) {
	s.t.Helper()
	select {
	case err := <-denied:
		if !strings.Contains(strings.ToLower(err.Error()), "permissions violation") ||
			!strings.Contains(err.Error(), fmt.Sprintf("%q", subject)) {
			s.t.Errorf("%s: %v", subject, err)
		}
	case <-time.After(5 * time.Second):
		s.t.Errorf("%s is allowed", subject)
	}
}

// secretWords are what must never leave: the tokens and the sealing key, as their files hold them.
func (s *stage) secretWords() (words []string) {
	s.t.Helper()
	for _, file := range []string{"nats.token", "admin.token", "sealing.key"} {
		b, err := os.ReadFile(s.plane.Data + "/" + file)
		s.ok(err)
		words = append(words, strings.TrimSpace(string(b)))
	}
	return words
}
