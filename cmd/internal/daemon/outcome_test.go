package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
)

// An action has a line in the audit log before it is done. Where it is refused behind that, the log
// does not read as if it had been done.
func TestWhatIsRefusedIsRecordedAsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	r := start(t, func(c *config.Config) { c.AuditFile = file })
	pair := func() (q api.PutCert) {
		dir := t.TempDir()
		identitytest.Certify(t, dir, "a.example")
		for name, to := range map[string]*[]byte{"tls.crt": &q.Chain, "tls.key": &q.Key} {
			b, err := os.ReadFile(filepath.Join(dir, "a.example", name))
			if err != nil {
				t.Fatal(err)
			}
			*to = b
		}
		return q
	}
	if _, err := r.client.PutCert(t.Context(), "a.example", pair()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.RotateKEK(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The file takes lines while the store is frozen.
	if err := r.client.Freeze(t.Context(), api.FreezeRequest{Why: "it moves"}); err != nil {
		t.Fatal(err)
	}
	_, put := r.client.PutCert(t.Context(), "a.example", pair())
	_, token := r.client.NewToken(t.Context(), api.NewToken{Name: "late", Role: "read"})
	remove := r.client.RemoveCert(t.Context(), "a.example")
	_, retire := r.client.RetireKEK(t.Context())
	for what, err := range map[string]error{"put": put, "token": token, "remove": remove, "retire": retire} {
		if err == nil {
			t.Errorf("%s was not refused", what)
		}
	}
	if _, err := r.client.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		done    int // how often it was done
		refused int
	}{
		{"kek-retire", 0, 1}, {"token-new", 0, 1}, {"cert-removed", 0, 1}, {"cert-put", 1, 1},
	} {
		begun := strings.Count(string(b), `"what":"`+c.what+`"`)
		refused := strings.Count(string(b), `"what":"`+c.what+`-refused"`)
		if begun-refused != c.done || refused < c.refused {
			t.Errorf("%s: %d lines, %d of them refused:\n%s", c.what, begun, refused, b)
		}
	}
	if report, err := r.client.VerifyAudit(t.Context()); err != nil || len(report.Reports[0].Problems) > 0 {
		t.Errorf("%+v %v", report, err)
	}
}

// What changes no ring and no certificate, and is no other kind of event, is told with who did it.
func TestWhatAnOperatorDoesIsAnEvent(t *testing.T) {
	r := start(t, nil)
	if _, err := r.client.NewToken(t.Context(), api.NewToken{Name: "alice", Role: "read"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.NewToken(t.Context(), api.NewToken{Name: "alice", Role: "read"}); err == nil {
		t.Fatal("a second token of a name was made")
	}
	if err := r.client.RevokeToken(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.RotateKEK(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Freeze(t.Context(), api.FreezeRequest{Why: "it moves"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"token-new alice by local administrator: role read", "token-revoked alice by local administrator",
		"kek-rotate by local administrator", "store-frozen by local administrator: it moves",
		"store-thawed by local administrator",
	}
	var got []string
	for end := time.Now().Add(30 * time.Second); len(got) < len(want) && time.Now().Before(end); {
		all, err := r.client.Events(t.Context(), api.EventsQuery{Kind: "operator"})
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		for _, e := range all.Events {
			if e.By != "local administrator" {
				t.Errorf("%+v", e)
			}
			got = append(got, e.Text)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !slices.Equal(got, want) {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
