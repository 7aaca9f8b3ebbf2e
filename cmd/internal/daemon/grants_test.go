package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// Two replicas answer as one who received a key and a certificate, and by which rules who may.
func TestGrantsAreThoseOfAllReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("it needs redis-server")
	}
	redis, err := fleet.ForTest(t).Redis(t.Context(), "store")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	me := fmt.Sprintf("unix:uid=%d", os.Getuid())
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, fmt.Appendf(nil, `rules:
- {identity: "spiffe://other.example/*", names: [b.example]}
- {identity: %q, scopes: [default], names: ["*.example"], nodes: ["edge-*"]}
- {identity: "spiffe://fleet.example/*", scopes: ["*"], nodes: ["edge-{1}"]}
`, me), 0o600); err != nil {
		t.Fatal(err)
	}
	certs := filepath.Join(dir, "certs")
	identitytest.Certify(t, certs, "a.example")
	identitytest.Certify(t, certs, "b.example")
	replica := func(socket string) *running {
		return start(t, func(c *config.Config) {
			c.Store, c.KEK, c.Events = "redis://"+redis.Addr, filepath.Join(dir, "sealing.key"), "nats://127.0.0.1:1"
			c.Refresh, c.Policy, c.Certs, c.KEKNew = time.Second, policy, certs, true
			c.XDSListen = "unix:" + filepath.Join(dir, socket)
		})
	}
	one := replica("1")
	two := replica("2")
	for id, socket := range map[string]string{"edge-1": "1", "edge-2": "2"} {
		n := join(t, "unix:"+filepath.Join(dir, socket), id, "a.example", "tickets/default")
		n.gets("+a.example", "+tickets/default")
	}
	st, err := one.rolls.Status("default")
	if err != nil {
		t.Fatal(err)
	}
	key := st.Keys[0].ID
	for q, may := range map[api.GrantsQuery]string{
		{Key: key}:          "[2 [edge-*] 3 [edge-{1}]]",
		{Cert: "A.example"}: "[2 [edge-*]]",
	} {
		testkit.Until(t, func() error {
			g, err := one.client.Grants(t.Context(), q)
			if err != nil {
				return err
			}
			var got []string
			for _, r := range g.Received {
				if r.Identity != me || r.At.IsZero() || r.Version == "" || r.State != "accepted" {
					err = errors.Join(err, fmt.Errorf("%+v", r))
				}
				got = append(got, r.Node+" "+r.Replica)
			}
			want := fmt.Sprintf("edge-1 %s, edge-2 %s", one.data.Replica, two.data.Replica)
			if strings.Join(got, ", ") != want {
				err = errors.Join(err, fmt.Errorf("received by %q, want %q", got, want))
			}
			var rules []any
			for _, m := range g.May {
				rules = append(rules, m.Rule, m.Nodes)
			}
			if fmt.Sprint(rules) != may || g.Open || len(g.Silent) > 0 || len(g.Unknown) == 0 {
				err = errors.Join(err, fmt.Errorf("%+v", g))
			}
			if q.Key != "" && len(g.Recorded) == 0 {
				err = errors.Join(err, errors.New("the audit log's lines of the key are missing"))
			}
			return err
		})
	}
	g, err := two.client.Grants(t.Context(), api.GrantsQuery{Cert: "b.example"})
	if err != nil || len(g.Received) != 0 || len(g.May) != 2 || g.May[0].Rule != 1 {
		t.Errorf("of a certificate that nobody asked for: %+v %v", g, err)
	}

	if _, err := two.client.Grants(t.Context(), api.GrantsQuery{Cert: "nosuch"}); err == nil ||
		!strings.Contains(err.Error(), keysource.ErrNotExist.Error()) {
		t.Errorf("of a certificate that nobody has heard of: %v", err)
	}
	// The audit log's fingerprint of the key finds the key.
	log, err := one.client.Audit(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := ""
	for _, l := range log.Lines {
		if l.KeyID == key {
			fingerprint = l.Key
		}
	}
	if g, err := one.client.Grants(t.Context(), api.GrantsQuery{Key: fingerprint}); err != nil || g.What != key ||
		len(g.Received) != 2 || len(fingerprint) != 64 {
		t.Errorf("by the fingerprint %q: %+v %v", fingerprint, g, err)
	}

	// A key that is new has reached nobody who has not been sent it; one that is unknown is said.
	if _, err := one.client.Grants(t.Context(), api.GrantsQuery{Key: "0000000000000000"}); err == nil ||
		!strings.Contains(err.Error(), keysource.ErrNotExist.Error()) {
		t.Errorf("of an unknown key: %v", err)
	}
	if _, err := one.client.Grants(t.Context(), api.GrantsQuery{}); err == nil {
		t.Error("of nothing: no error")
	}
}
