package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// happened waits until an event of the kind has all of the words.
func (r *running) happened(t *testing.T, kind string, words ...string) (found api.Event) {
	t.Helper()
	testkit.Until(t, func() error {
		all, err := r.client.Events(t.Context(), api.EventsQuery{Kind: kind})
		for _, e := range all.Events {
			lacks := func(w string) bool { return !strings.Contains(e.Text+" by "+e.By, w) }
			if e.Kind == kind && !slices.ContainsFunc(words, lacks) {
				found = e
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("no %s with %q: %+v", kind, words, all.Events))
	})
	return found
}

// as is the client of a new token.
func (r *running) as(t *testing.T, q api.NewToken) api.Client {
	t.Helper()
	made, err := r.client.NewToken(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	c := *r.client
	c.Token = made.Secret
	return c
}

// audited waits until the audit log has a line.
func (r *running) audited(t *testing.T, what, actor, name string) (line api.AuditLine) {
	t.Helper()
	testkit.Until(t, func() error {
		log, err := r.client.Audit(t.Context(), 1000)
		for _, l := range log.Lines {
			if l.What == what && strings.HasPrefix(l.Actor, actor) && l.Name == name {
				line = l
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("no line %s of %s on %s: %+v", what, actor, name, log.Lines))
	})
	return line
}

// An action that is refused before it begins has a line and an event with who, as one that is
// refused later. A stranger has as well, and cannot fill the record.
func TestARefusedActionIsRecordedWithWho(t *testing.T) {
	r := start(t, nil)
	reader := r.as(t, api.NewToken{Name: "bob", Role: "read"})
	bound := r.as(t, api.NewToken{Name: "carol", Role: "operate", Scope: "default"})
	ownKey := api.RotateRequest{Key: make([]byte, 80)}
	for what, err := range map[string]error{
		"a rotation by a reader":        errorOf(reader.Rotate(t.Context(), "default", api.RotateRequest{})),
		"another thing by one scope":    bound.RemoveCert(t.Context(), "a.example"),
		"retiring a key by an operator": errorOf(bound.RetireKEK(t.Context())),
		"a key of one's own":            errorOf(bound.Rotate(t.Context(), "default", ownKey)),
	} {
		if e := (*api.Error)(nil); !errors.As(err, &e) || e.Code != api.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, c := range [][2]string{
		{"bob", "POST /v1/scopes/default/rotate"}, {"carol", "DELETE /v1/certs/a.example"},
		{"carol", "POST /v1/kek/retire"}, {"carol", "POST /v1/scopes/default/rotate"},
	} {
		r.happened(t, "action-refused", "token "+c[0], c[1])
		if l := r.audited(t, "forbidden", "token "+c[0], c[1]); l.Why == "" {
			t.Errorf("%+v says not why", l)
		}
	}
	// What is refused as it stands is recorded, too. What was merely typed wrongly is not.
	bad := api.PutCert{Chain: []byte("x"), Key: []byte("y")}
	if _, err := r.client.PutCert(t.Context(), "a.example", bad); err == nil {
		t.Fatal("a certificate that is none was put")
	}
	r.happened(t, "action-refused", "local administrator", "PUT /v1/certs/a.example")
	r.audited(t, "refused", "local administrator", "PUT /v1/certs/a.example")

	stranger := *r.client
	for i := range 300 {
		stranger.Token = fmt.Sprint("guess-", i)
		if err := stranger.RemoveCert(t.Context(), fmt.Sprintf("%d.example", i)); err == nil {
			t.Fatal("a stranger removed a certificate")
		}
	}
	r.happened(t, "action-refused", "somebody unknown at 127.0.0.1", "DELETE /v1/certs/0.example")
	r.audited(t, "forbidden", "somebody unknown at 127.0.0.1", "DELETE /v1/certs/0.example")
	log, err := r.client.Audit(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	all, err := r.client.Events(t.Context(), api.EventsQuery{Kind: "action-refused"})
	if err != nil {
		t.Fatal(err)
	}
	lines, told := 0, 0
	for _, l := range log.Lines {
		if strings.HasPrefix(l.Actor, "somebody unknown") {
			lines++
		}
	}
	for _, e := range all.Events {
		if strings.HasPrefix(e.By, "somebody unknown") {
			told++
		}
	}
	if lines > 12 || told > 6 {
		t.Errorf("of 300 requests of strangers there are %d lines and %d events", lines, told)
	}
	for _, b := range []any{log, all} {
		if text, _ := json.Marshal(b); strings.Contains(string(text), "guess-") {
			t.Error("what a stranger gave as a token is written down")
		}
	}
	// Reading changes nothing, and is no line.
	if _, err := stranger.Status(t.Context()); err == nil {
		t.Error("a stranger read the status")
	}
	if log, _ := r.client.Audit(t.Context(), 1000); slices.ContainsFunc(log.Lines, func(l api.AuditLine) bool {
		return strings.HasPrefix(l.Name, http.MethodGet)
	}) {
		t.Errorf("%+v", log.Lines)
	}
}

func errorOf[T any](_ T, err error) error { return err }

// What operators do besides keys and certificates is an event with who, and without a secret.
func TestWhatOperatorsDoIsAnEventWithWho(t *testing.T) {
	r := start(t, func(c *config.Config) { c.XDSOpen = true })
	alice := r.as(t, api.NewToken{Name: "alice", Role: "admin"})
	secret := alice.Token
	r.happened(t, "operator", "alice", "role admin", "local administrator")
	made := r.as(t, api.NewToken{Name: "brief", Role: "read"})
	if err := alice.RevokeToken(t.Context(), "brief"); err != nil {
		t.Fatal(err)
	}
	r.happened(t, "operator", "brief", "token alice")
	if _, err := alice.RotateKEK(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.happened(t, "operator", "token alice")
	testkit.Until(t, func() error { return errorOf(alice.RetireKEK(t.Context())) })
	r.happened(t, "operator", "token alice")
	if err := alice.Freeze(t.Context(), api.FreezeRequest{Why: "it moves"}); err != nil {
		t.Fatal(err)
	}
	r.happened(t, "operator", "it moves", "token alice")
	if _, err := alice.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.happened(t, "operator", "token alice")

	// An acknowledgement changes no key. So it is an event only.
	testkit.Until(t, func() error {
		return alice.Acknowledge(t.Context(), "xds-open", api.AckRequest{Why: "it is ordered", Seconds: 3600})
	})
	r.happened(t, "problem-acknowledged", "xds-open", "1h0m0s", "it is ordered", "token alice")
	if err := alice.Acknowledge(t.Context(), "xds-open", api.AckRequest{}); err != nil {
		t.Fatal(err)
	}
	r.happened(t, "problem-unacknowledged", "xds-open", "token alice")
	if err := alice.Acknowledge(t.Context(), "xds-open", api.AckRequest{}); err == nil ||
		!strings.Contains(err.Error(), "is not acknowledged") {
		t.Errorf("what was not acknowledged was taken back: %v", err)
	}
	all, err := r.client.Events(t.Context(), api.EventsQuery{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(all)
	if err != nil || strings.Contains(string(text), secret) || strings.Contains(string(text), made.Token) {
		t.Errorf("a token is written down (%v)", err)
	}
}

// A node that is expected and has never been here is known, and one that nobody knows is not.
func TestANodeThatIsNotHereIsNamedAsWhatItIs(t *testing.T) {
	r := start(t, func(c *config.Config) { c.ExpectedNodes = []string{"never"} })
	for node, want := range map[string]string{
		"never": "is expected and has never been here", "nobody": "does not exist",
	} {
		_, err := r.client.Nodes(t.Context(), node)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nodes %s: %v, want %q", node, err, want)
		}
	}
	err := r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "never", Seconds: 60})
	if err == nil || !strings.Contains(err.Error(), "is expected and has never been here") {
		t.Errorf("exclude: %v", err)
	}
}
