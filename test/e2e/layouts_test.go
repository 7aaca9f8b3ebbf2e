package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// lay writes files below dir. A text that begins with -> is a link.
func (s *stage) lay(dir string, files map[string]string) {
	s.t.Helper()
	for name, text := range files {
		at := filepath.Join(dir, name)
		s.ok(os.MkdirAll(filepath.Dir(at), 0o700))
		_ = os.Remove(at)
		if to, is := strings.CutPrefix(text, "->"); is {
			s.ok(os.Symlink(to, at))
		} else {
			s.ok(os.WriteFile(at, []byte(text), 0o600))
		}
	}
}

// TestFilesOfOtherProgramsAreServed: Envoy takes them and serves them, in whatever layout and text.
// OpenSSL verifies what is served. Hooks of certbot and acme.sh put theirs into the store.
func TestFilesOfOtherProgramsAreServed(t *testing.T) {
	s := newStage(t, setup{hosts: 1, later: true})
	root := string(s.ca.PEM())
	crlf := func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
	lay := map[string]func(host, chain, key string) map[string]string{
		"certbot.example": func(h, chain, key string) map[string]string {
			return map[string]string{
				"../archive/" + h + "/fullchain1.pem": chain, "../archive/" + h + "/privkey1.pem": key,
				h + "/fullchain.pem": "->../../archive/" + h + "/fullchain1.pem",
				h + "/privkey.pem":   "->../../archive/" + h + "/privkey1.pem", "README": "keys",
			}
		},
		"acme.example": func(h, chain, key string) map[string]string {
			return map[string]string{h + "_ecc/fullchain.cer": chain, h + "_ecc/" + h + ".key": key,
				h + "_ecc/ca.cer": root}
		},
		"lego.example": func(h, chain, key string) map[string]string {
			return map[string]string{h + ".crt": chain, h + ".key": key, h + ".issuer.crt": root, h + ".json": "{}"}
		},
		"haproxy.example": func(h, chain, key string) map[string]string {
			return map[string]string{h + ".pem": key + chain}
		},
		"windows.example": func(h, chain, key string) map[string]string {
			return map[string]string{h + "/tls.crt": "\ufeff" + crlf(chain), h + "/tls.key": "\ufeff" + crlf(key)}
		},
		"backwards.example": func(h, chain, key string) map[string]string {
			return map[string]string{h + "/tls.crt": root + chain + chain, h + "/tls.key": key}
		},
		"label.example": func(h, chain, key string) map[string]string {
			return map[string]string{h + "/tls.key": key,
				h + "/tls.crt": strings.ReplaceAll(chain+root, "CERTIFICATE-", "X509 CERTIFICATE-")}
		},
	}
	pairs := map[string]fleet.Pair{s.hosts[0]: s.renew(s.hosts[0])}
	for host, files := range lay {
		pairs[host] = s.issue(host, "www."+host)
		s.lay(s.certs, files(host, string(pairs[host].Chain), string(pairs[host].Key)))
		s.hosts = append(s.hosts, host)
	}
	slices.Sort(s.hosts)
	s.start()
	s.fleetOf(1)
	for host, pair := range pairs {
		s.eventually(func() error { return s.serves(host, pair) })
		out, err := exec.CommandContext(s.ctx, "openssl", "s_client", "-connect", s.envoys[0].addr, "-servername", host,
			"-CAfile", s.path("ca.pem"), "-verify_hostname", host, "-verify_return_error", "-brief").CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("Verification: OK")) {
			t.Errorf("%s: %v: %s", host, err, out)
		}
	}
	for words, host := range map[string]string{
		"not served under its other names: www.certbot.example": "certbot.example",
		"byte order mark": "windows.example", "certificates 1, 0": "backwards.example",
		"label X509 CERTIFICATE is read as CERTIFICATE": "label.example",
	} {
		if out := s.mustRun("cert", "list", host); !strings.Contains(out, words) {
			t.Errorf("cert list %s: %s, want %q", host, out, words)
		}
	}
	if r := s.lockstep("status"); r.code != 0 {
		t.Errorf("status: exit code %d: %s", r.code, r.err)
	}

	renewed := s.issue("hook.example", "*.hook.example")
	live := s.path("live")
	s.lay(live, map[string]string{"fullchain.pem": string(renewed.Chain), "privkey.pem": string(renewed.Key)})
	hook := exec.CommandContext(s.ctx, "../../deploy/certbot/lockstep")
	acme := exec.CommandContext(s.ctx, "sh", "-c", `. ../../deploy/acme.sh/lockstep.sh
_getdeployconf() { :; }
Le_Alt='*.hook2.example'
lockstep_deploy hook2.example "$1/key" "$1/cert" "$1/ca" "$1/chain"`, "sh", s.path("acme"))
	second := s.issue("hook2.example", "*.hook2.example")
	s.lay(s.path("acme"), map[string]string{"chain": string(second.Chain), "key": string(second.Key)})
	for _, c := range []*exec.Cmd{hook, acme} {
		c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "LOCKSTEP_DATA_DIR="+s.plane.Data,
			"RENEWED_LINEAGE="+live, "RENEWED_DOMAINS=hook.example *.hook.example")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c.Args, err, out)
		}
	}
	for _, name := range []string{"hook.example", "*.hook.example", "hook2.example", "*.hook2.example"} {
		if out := s.mustRun("cert", "get", name); !strings.Contains(out, "store") ||
			strings.Contains(out, "not served under") {
			t.Errorf("%s: %s", name, out)
		}
	}
}
