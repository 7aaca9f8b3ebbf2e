package daemon

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// ring asks for the scope's ring on a stream of its own and returns its version.
func ring(t *testing.T, r *running, node string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(r.xdsListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &discoveryv3.DiscoveryRequest{
		Node: &corev3.Node{Id: node, UserAgentName: xds.EdgeAgent}, TypeUrl: sds.TypeURL,
		ResourceNames: []string{"tickets/default"},
	}
	if err := s.Send(ask); err != nil {
		t.Fatal(err)
	}
	answer, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return answer.VersionInfo
}

// breakLog puts something into the store that no line may follow, until the function that it
// returns is called.
func breakLog(t *testing.T, r *running) (repair func(*Daemon)) {
	t.Helper()
	good, rev, err := r.store.Get(t.Context(), "audit/head")
	if err != nil {
		t.Fatal(err)
	}
	if rev, err = r.store.Swap(t.Context(), "audit/head", rev,
		bytes.Replace(good, []byte(`"mac":"`), []byte(`"mac":"A`), -1)); err != nil {
		t.Fatal(err)
	}
	return func(d *Daemon) {
		t.Helper()
		if _, err := d.store.Swap(context.Background(), "audit/head", rev, good); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutAnAuditLogNothingChangesAndServingGoesOn(t *testing.T) {
	r := start(t, nil)
	before := ring(t, r, "early")
	if before == "" {
		t.Fatal("no ring")
	}
	// what is not given up yet: a loss of the store
	if _, err := r.store.Swap(t.Context(), "store/lost", 0, []byte(`{"by":"test"}`)); err != nil {
		t.Fatal(err)
	}
	repair := breakLog(t, r)
	for what, change := range map[string]func() error{
		"rotate": func() error {
			_, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{By: "me"})
			return err
		},
		"burn": func() error {
			_, err := r.client.Burn(t.Context(), "default", api.RotateRequest{By: "me"})
			return err
		},
		"exclude": func() error {
			return r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "early", Seconds: 60})
		},
		"confirm": func() error { _, err := r.client.ConfirmLoss(t.Context()); return err },
	} {
		var answer *api.Error
		if err := change(); !errors.As(err, &answer) || answer.Code != api.Refused ||
			!strings.Contains(answer.Message, "audit log cannot be written") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if v := ring(t, r, "late"); v != before {
		t.Errorf("a node that comes now gets %q, not %q", v, before)
	}
	st, err := r.client.Status(t.Context())
	if err != nil || st.Scopes[0].Version != before ||
		!strings.Contains(strings.Join(st.Degraded, "\n"), "audit log cannot be written to the store") {
		t.Errorf("%+v %v", st, err)
	}
	repair(r.Daemon)
	if _, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{By: "me"}); err != nil {
		t.Fatal(err)
	}
	if found, err := r.client.VerifyAudit(t.Context()); err != nil || len(found.Reports[0].Problems) > 0 {
		t.Errorf("%+v %v", found, err)
	}
}

func TestTheAuditLogTellsWhatWasDone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	r := start(t, func(c *config.Config) { c.AuditFile = file })
	started, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{By: "alice", Why: "because"})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		ro, err := r.client.Rotation(t.Context(), "default", started.Rotation)
		if err == nil && ro.Ended {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v %v", ro, err)
		}
	}
	if _, err := r.client.Burn(t.Context(), "default", api.RotateRequest{By: "bob", Why: "stolen"}); err != nil {
		t.Fatal(err)
	}
	r.audit.Forbidden("spiffe://fleet/x", "shop.example")
	var log api.Audit
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(whats(log), "forbidden") ||
		!strings.Contains(whats(log), "burnt"); time.Sleep(5 * time.Millisecond) {
		if log, err = r.client.Audit(t.Context(), 100); err != nil || time.Now().After(deadline) {
			t.Fatalf("%s %v", whats(log), err)
		}
	}
	now := r.rolls.Current("default")
	by := map[string]api.AuditLine{}
	for _, l := range log.Lines {
		by[l.What] = l
		if l.Scope != "" && (l.Made == nil || !*l.Made) {
			t.Errorf("it is not known that %s was made", l.What)
		}
		for _, k := range now.Keys {
			if strings.Contains(l.Why+l.Key, string(k[16:])) {
				t.Error("a key stands in the log")
			}
		}
	}
	if l := by["distributing"]; l.Actor != "local administrator (claims alice)" || l.Why != "because" ||
		l.Scope != "default" || l.Rotation != started.Rotation || len(l.Key) != 64 || len(l.KeyID) != 16 {
		t.Errorf("%+v", l)
	}
	if l := by["burning"]; l.Actor != "local administrator (claims bob)" || len(l.Burnt) != 2 ||
		l.Key != now.Keys[0].Fingerprint() || l.KeyID != now.Keys[0].ID() {
		t.Errorf("%+v", l)
	}
	if l := by["forbidden"]; l.Actor != "spiffe://fleet/x" || l.Name != "shop.example" {
		t.Errorf("%+v", l)
	}
	if head := r.rolls.Audit("default"); !strings.HasSuffix(head, ":"+by["burnt"].MAC) {
		t.Errorf("the rollout names %s", head)
	}
	found, err := r.client.VerifyAudit(t.Context())
	if err != nil || len(found.Reports) != 1 || len(found.Reports[0].Problems) > 0 ||
		found.Reports[0].Lines != uint64(len(log.Lines)) {
		t.Fatalf("%+v %v", found, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if found, err = r.client.VerifyAuditLines(t.Context(), bytes.NewReader(text)); err != nil ||
		len(found.Reports) != 1 || len(found.Reports[0].Problems) > 0 ||
		found.Reports[0].Lines != uint64(len(log.Lines)) {
		t.Fatalf("%+v %v", found, err)
	}
	if found, err = r.client.VerifyAuditLines(t.Context(), bytes.NewReader(text[:len(text)/2])); err != nil ||
		len(found.Reports[0].Problems) == 0 {
		t.Fatalf("%+v %v", found, err)
	}
	_, err = r.certs.Put(t.Context(), keysource.Name("a.example"), keysource.PEM{})
	if err == nil {
		t.Error("a bad certificate was stored")
	}
	if again, err := r.client.Audit(t.Context(), 100); err != nil || len(again.Lines) != len(log.Lines) {
		t.Errorf("a certificate that is refused is no change: %s %v", whats(again), err)
	}
}

func whats(log api.Audit) string {
	var out []string
	for _, l := range log.Lines {
		out = append(out, l.What)
	}
	return strings.Join(out, " ")
}
