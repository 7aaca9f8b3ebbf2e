package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestAListenerIsRefusedForAStoredCertificate: an Envoy that keeps a certificate which it refused
// takes no new listener, in the certificate's words. When the certificate is mended it takes the
// listener, without a restart.
func TestAListenerIsRefusedForAStoredCertificate(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"host-1.example", "host-2.example"} {
		// the first chain, and the last
		t.Run(bad, func(t *testing.T) {
			s := newStage(t, setup{later: true})
			addr := s.listen("  hosts: [host-1.example, host-2.example]\n")
			// the template is read again as often
			s.plane.Args = append(s.plane.Args, "--canary", "0s", "--refresh", "1s")
			s.start()
			relay := s.relay(s.plane.XDS)
			e := s.hybridVia(relay, "edge-1", addr)
			s.awaitReady()
			s.awaitPhase("steady", 1)
			good := s.hosts[0]
			if bad == good {
				good = s.hosts[1]
			}
			before := s.renew(bad)
			s.eventually(func() error { return s.serving(e, bad, before) })
			relay.Spoil(bad, true) // no remedy helps
			s.renew(bad)
			s.eventually(func() error {
				if r := s.lockstep("nodes"); !strings.Contains(r.out, "refusing") {
					return fmt.Errorf("nodes: %s", r.out)
				}
				return nil
			})
			template, err := os.ReadFile(s.path("listener.yaml"))
			s.ok(err)
			changed := bytes.Replace(template, []byte(`stat_prefix: "tls"`), []byte(`stat_prefix: "other"`), -1)
			if bytes.Equal(changed, template) {
				t.Fatal("the template has another stat_prefix than this test knows")
			}
			s.file("listener.yaml", changed)
			s.eventually(func() error {
				if r := s.lockstep("status"); r.code != 3 || !strings.Contains(r.err, "1 nodes refuse the listener") {
					return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
				}
				return nil
			})
			s.ok(s.trusted(e, good))
			relay.Spoil(bad, false)
			p := s.renew(bad)
			s.eventually(func() error { return s.serving(e, bad, p) })
			s.eventually(func() error {
				if !bytes.Contains(s.envoyAdmin(e, "/config_dump?resource=dynamic_listeners"),
					[]byte(`"stat_prefix": "other"`)) {
					return errNotYet
				}
				return nil
			})
			s.eventually(func() error {
				if r := s.lockstep("status"); r.code != 0 {
					return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
				}
				return nil
			})
			s.mustRunInTime("rotate", "--wait", "--timeout", "30s")
			for _, h := range s.hosts {
				if !s.resumes(e, h) {
					t.Errorf("%s does not resume", h)
				}
			}
		})
	}
}

// clientCA writes a secret for Envoy's own file source, as a rename, which Envoy watches.
func (s *stage) clientCA(path, trusted string) {
	s.t.Helper()
	b, err := json.Marshal(map[string]any{"resources": []any{map[string]any{
		"@type": secretType, "name": "clients",
		"validation_context": map[string]any{"trusted_ca": map[string]any{"inline_string": trusted}},
	}}})
	s.ok(err)
	s.ok(os.WriteFile(path+".new", b, 0o600))
	s.ok(os.Rename(path+".new", path))
}

// TestARingIsRefusedForWhatOthersGaveTheNode: a CA for client certificates, from the Envoy's own
// file, goes bad. No filter chain can be built any more, whatever lockstepd sends. It says so,
// names the node and what to do, and no burn counts as done meanwhile.
func TestARingIsRefusedForWhatOthersGaveTheNode(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{scopes: fmt.Sprintf("  default: {ticket_lifetime: %s, node_lease: 10s}\n", lifetime)})
	s.moreTime(3 * time.Minute)
	file := s.path("clients.json")
	s.clientCA(file, string(s.ca.PEM()))
	e := s.place("edge-1")
	source := fmt.Sprintf("validation_context_sds_secret_config: {name: \"clients\", sds_config: "+
		"{resource_api_version: V3, path_config_source: {path: %q}}}\n            tls_params:", file)
	config := strings.ReplaceAll(string(s.bootstrap(e, s.plane.XDS, s.eagerFlags(e, s.hosts)...)),
		"tls_params:", source)
	s.run(e, []byte(config))
	s.envoy("edge-2")
	s.awaitReady()
	s.awaitPhase("steady", 2)
	var old []issued
	for _, h := range s.hosts {
		for _, v := range bothVersions {
			old = append(old, issued{s.session(e, h, v), h, e.name})
		}
	}
	s.clientCA(file, "broken")
	s.eventually(func() error {
		if !strings.Contains(e.LogTail(20), "trusted CA") {
			return errNotYet
		}
		return nil
	})
	s.mustRunInTime("burn", "--yes", "--why", "test")
	s.eventually(func() error {
		r := s.lockstep("status")
		if r.code != 3 || !strings.Contains(r.out+r.err, "edge-1") ||
			!strings.Contains(r.out+r.err, "restart this Envoy") {
			return fmt.Errorf("status: exit code %d: %s%s", r.code, r.out, r.err)
		}
		return nil
	})
	r := s.lockstep("burn", "--yes", "--wait", "--timeout", "14s")
	if r.code != 3 || !strings.Contains(r.out+r.err, "edge-1") || !strings.Contains(r.out+r.err, "restart this Envoy") {
		t.Errorf("burn --wait: exit code %d: %s%s", r.code, r.out, r.err)
	}
	resumed := 0
	for _, is := range old {
		if did, err := s.again(e, is.host, is.Version, is.Session); err == nil && did {
			resumed++
		}
	}
	t.Logf("while it is named, %d of %d tickets of the burnt key resume on edge-1", resumed, len(old))
	for _, h := range s.hosts {
		s.ok(s.trusted(e, h))
	}
	if sc := s.scope(); sc.Phase != "burning" {
		t.Errorf("%s, want burning: %+v", sc.Phase, sc)
	}

	// The file is repaired. Envoy builds its chains from what it keeps: what it should have, and no
	// remedy.
	s.clientCA(file, string(s.ca.PEM()))
	time.Sleep(time.Second)
	for _, h := range s.hosts {
		s.eventually(func() error { return s.trusted(e, h) })
	}
	s.ok(e.Kill()) // as it says
	s.ok(e.Restart())
	s.awaitReady(e)
	s.eventuallyWithin(40*time.Second, func() error {
		if sc := s.scope(); sc.Phase != "steady" || sc.Nodes.Accepted != 2 {
			return fmt.Errorf("%s, %+v, blocked by %v", sc.Phase, sc.Nodes, sc.BlockedBy)
		}
		return nil
	})
	for _, is := range old {
		if did, err := s.again(e, is.host, is.Version, is.Session); err != nil || did {
			t.Errorf("%s: after the burn, resumed %v, %v", is.host, did, err)
		}
	}
	for _, h := range s.hosts {
		s.ok(s.trusted(e, h))
	}
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}
}
