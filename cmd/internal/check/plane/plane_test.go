package plane

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/check"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/daemon"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/seal"
)

// stage is a folder with a configuration.
type stage struct {
	t    *testing.T
	dir  string
	file string
}

// write writes a file below the folder. DIR in text stands for the folder.
func (s stage) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	testkit.Check(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	testkit.Check(s.t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", s.dir)), 0o600))
	return path
}

func newStage(t *testing.T, yaml string) stage {
	dir, err := os.MkdirTemp("", "check-") // short enough for a socket
	testkit.Check(t, err)
	t.Cleanup(func() { testkit.Check(t, os.RemoveAll(dir)) })
	s := stage{t: t, dir: dir}
	if !strings.Contains(yaml, "data_dir:") {
		yaml += "data_dir: DIR/data\n"
	}
	if !strings.Contains(yaml, "admin_listen:") {
		yaml += "admin_listen: 127.0.0.1:0\n"
	}
	s.file = s.write("lockstepd.yaml", yaml)
	return s
}

func (s stage) getenv(string) string { return "" }

// check runs the check, and returns what it printed, and its exit code.
func (s stage) check() (string, int) {
	s.t.Helper()
	var out bytes.Buffer
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c := config.Default()
	c.Flags(f)
	err := Run(s.t.Context(), &out, s.file, f, s.getenv)
	if err == nil {
		return out.String(), 0
	}
	return out.String(), check.ExitCode(err, nil)
}

// start does what lockstepd does, and stops as soon as that has succeeded.
func (s stage) start() error {
	s.t.Helper()
	c := config.Default()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(f)
	if err := c.Load(s.file, f, s.getenv); err != nil {
		return err
	}
	if err := c.Forgotten(); err != nil {
		return err
	}
	d, err := daemon.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Millisecond):
			if s.ready(c.DataDir) {
				stop()
			}
		}
	}
}

// ready asks the lockstepd of a data directory.
func (s stage) ready(data string) bool {
	at, err := os.ReadFile(filepath.Join(data, "admin.addr"))
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get(strings.TrimSpace(string(at)) + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// certify writes a certificate with its key, and a CA.
func certify(s stage) {
	ca := identitytest.NewAuthority(s.t, "")
	cert, key := ca.SignUntil(&x509.Certificate{DNSNames: []string{"server.example"}}, time.Now().Add(24*time.Hour))
	s.write("tls.crt", string(identitytest.PEM(cert)))
	s.write("tls.key", string(identitytest.KeyPEM(s.t, key)))
	s.write("ca.pem", string(identitytest.PEM(ca.Cert)))
	_, other := ca.Sign(&x509.Certificate{DNSNames: []string{"other.example"}})
	s.write("other.key", string(identitytest.KeyPEM(s.t, other)))
}

const mtls = "xds_listen: 127.0.0.1:0\nxds_cert: DIR/tls.crt\nxds_key: DIR/tls.key\nxds_client_ca: DIR/ca.pem\n"

// used starts a lockstepd in the data directory, and ends it.
func used(s stage) { testkit.Check(s.t, s.start()) }

// TestTheCheckAndTheStartAgree: every line with which a start is refused is said by the check
// before, which has changed nothing. It names the others, too.
func TestTheCheckAndTheStartAgree(t *testing.T) {
	t.Parallel()
	const fine, unwell, refused = 0, 3, 5
	for _, c := range []struct {
		name, yaml string
		prepare    func(stage)
		code       int
		says       []string // besides what the start says
	}{
		{name: "nothing is there yet", says: []string{
			"note: the data directory DIR/data is made at the start", "note: the sealing key is made at the start",
			"checked: the configuration DIR/lockstepd.yaml", "a start would go on",
		}},
		{name: "all is there", prepare: used, says: []string{"it opens the store"}},

		{name: "an unknown key", yaml: "refresh: 1s\nnonsense: 1\n", code: refused, says: []string{
			"refused: DIR/lockstepd.yaml:2: unknown key \"nonsense\"", "not checked: the files",
		}},
		{name: "several settings", yaml: "refresh: 1ms\nlog_level: loud\npolicy: DIR/none.yaml\n", code: refused,
			says: []string{
				"lockstepd.yaml:1: refresh", "lockstepd.yaml:2: log_level",
				"lockstepd.yaml:3: policy: open DIR/none.yaml",
			}},

		{name: "no policy", yaml: "policy: DIR/none.yaml\nxds_listen: unix:DIR/x.sock\n", code: refused,
			says: []string{"lockstepd.yaml:1: policy: open"}},
		{name: "two bad rules", yaml: "policy: DIR/policy.yaml\nxds_listen: unix:DIR/x.sock\n", code: refused,
			prepare: func(s stage) {
				s.write("policy.yaml", "rules:\n- identity: a.example\n- identity: b.example\n  scopes: [default]\n"+
					"- identity: \"a*b*c\"\n  names: [\"*\"]\n")
			},
			says: []string{"rule 1 (line 2): it grants nothing", "rule 3 (line 5)"}},
		{name: "a policy", yaml: "policy: DIR/policy.yaml\nxds_listen: unix:DIR/x.sock\n", prepare: func(s stage) {
			s.write("policy.yaml", "rules:\n- identity: a.example\n  scopes: [default, other]\n")
		}, says: []string{"1 rules", "note: the policy names a scope that is not configured, scope other"}},

		{name: "no certificates", yaml: mtls, code: refused, says: []string{
			"lockstepd.yaml:2: xds_cert DIR/tls.crt", "lockstepd.yaml:4: xds_client_ca: open DIR/ca.pem",
		}},
		{name: "another's key", yaml: strings.Replace(mtls, "tls.key", "other.key", 1), code: refused,
			prepare: certify},
		{name: "a CA without a certificate", yaml: mtls, code: refused, prepare: func(s stage) {
			certify(s)
			s.write("ca.pem", "nothing")
		}},
		{name: "mTLS", yaml: mtls, prepare: certify, code: fine, says: []string{"server.example"}},
		{name: "a certificate near its end", yaml: mtls, code: unwell, prepare: func(s stage) {
			certify(s)
			ca := identitytest.NewAuthority(s.t, "")
			soon := time.Now().Add(time.Hour)
			cert, key := ca.SignUntil(&x509.Certificate{DNSNames: []string{"server.example"}}, soon)
			s.write("tls.crt", string(identitytest.PEM(cert)))
			s.write("tls.key", string(identitytest.KeyPEM(s.t, key)))
		}, says: []string{"not well: DIR/lockstepd.yaml:2: ", "is near its end"}},
		{name: "no Workload API", yaml: "xds_listen: 127.0.0.1:0\nspiffe_socket: /nowhere\n", code: refused},

		{name: "a missing key", yaml: "kek: DIR/none.key\n", code: refused,
			says: []string{"lockstepd.yaml:1: data dir"}},
		{name: "a key that is made", yaml: "kek: DIR/new.key\nkek_new: true\n", code: fine},
		{name: "no folder for the key", yaml: "kek: DIR/none/new.key\nkek_new: true\n", code: refused},
		{name: "a key that others read", yaml: "kek: DIR/open.key\n", code: refused, prepare: func(s stage) {
			testkit.Check(s.t, os.Chmod(s.write("open.key", "{}"), 0o644))
		}},
		{name: "a key that is none", yaml: "kek: DIR/bad.key\n", code: refused, prepare: func(s stage) {
			s.write("bad.key", "{}")
		}},
		{name: "an unset variable", yaml: "kek: env:LOCKSTEP_TEST_NO_KEY\n", code: refused},
		{name: "no credential", yaml: "kek: credential:none\n", code: refused},
		{name: "the key is lost", code: refused, prepare: func(s stage) {
			used(s)
			testkit.Check(s.t, os.Remove(filepath.Join(s.dir, "data/sealing.key")))
		}},
		{name: "the key of another store", code: refused, prepare: func(s stage) {
			used(s)
			path := filepath.Join(s.dir, "data/sealing.key")
			testkit.Check(s.t, os.Remove(path))
			_, err := seal.Create(path)
			testkit.Check(s.t, err)
		}},
		{name: "a damaged store", code: refused, prepare: func(s stage) {
			s.write("data/store.db", strings.Repeat("no store ", 10_000))
		}},
		{name: "a file for a directory", yaml: "data_dir: DIR/file/data\n", code: refused, prepare: func(s stage) {
			s.write("file", "")
		}},
		{name: "no name of the replica", code: refused, prepare: func(s stage) { s.write("data/replica", "\n") }},
		{name: "no token", code: refused, prepare: func(s stage) { s.write("data/admin.token", "") }},
		{name: "bad marks", code: refused, prepare: func(s stage) { s.write("data/generations.json", "no") }},
		{name: "bad marks of the audit log", code: refused, prepare: func(s stage) {
			s.write("data/audit.mark", "no")
		}},
		{name: "a file for the events", code: refused, prepare: func(s stage) { s.write("data/events", "") }},

		{name: "no password of Redis", yaml: "store: redis://u@127.0.0.1:1?password_file=DIR/none&tls_ca=DIR/ca.pem\n",
			code: refused, says: []string{"lockstepd.yaml:1: data directory", "DIR/none", "tls_ca: open DIR/ca.pem"}},
		{name: "no password of the Sentinels", code: refused,
			yaml: "store: redis+sentinel://127.0.0.1:1/m?sentinel_password_file=DIR/none\n"},
		{name: "an empty token of NATS", yaml: "store: nats://127.0.0.1:1?token_file=DIR/token&tls_ca=DIR/ca.pem\n",
			prepare: func(s stage) { s.write("token", "\n") }, code: refused, says: []string{"DIR/ca.pem"}},
		{name: "no credentials of NATS", yaml: "store: nats://127.0.0.1:1?creds=DIR/none\n", code: refused},
		{name: "a password in the URL", yaml: "store: redis://u:secret@127.0.0.1:1\n", code: refused},
		{name: "a bad URL of events", yaml: "events: nats://%zz\n", code: refused},
		{name: "NATS off loopback", yaml: "nats_listen: 192.0.2.1:4222\n", code: refused},

		{name: "no such group", code: refused,
			yaml: "xds_listen: unix:DIR/run/x.sock\nxds_socket_group: no-such-group\n"},
		{name: "a file for the socket", yaml: "xds_listen: unix:DIR/x.sock\n", code: refused, prepare: func(s stage) {
			s.write("x.sock", "")
		}},
		{name: "no place for the socket", yaml: "xds_listen: unix:DIR/a/b/x.sock\n", code: refused},
		{name: "no port", yaml: "admin_listen: 127.0.0.1:99999\n", code: refused,
			says: []string{"lockstepd.yaml:1: admin_listen: listen tcp: address 99999: invalid port"}},
		{name: "no port for metrics", yaml: "metrics_listen: 127.0.0.1:no-port\n", code: refused},

		{name: "no template", yaml: "listeners: {template: DIR/none.yaml}\n", code: refused},
		{name: "a bad template", yaml: "listeners:\n  template: DIR/listener.yaml\n", code: refused,
			prepare: func(s stage) { s.write("listener.yaml", "name: x\n") },
			says: []string{
				"lockstepd.yaml:2: listeners: DIR/listener.yaml", "address is missing", "0 filter_chains",
			}},

		{name: "no certificates' directory", yaml: "certs: DIR/certs\n", code: refused},
		{name: "broken certificates", yaml: "certs: DIR/certs\n", code: unwell, prepare: func(s stage) {
			for _, name := range []string{"good.example", "bad.example", "half.example"} {
				identitytest.Certify(s.t, filepath.Join(s.dir, "certs"), name)
			}
			s.write("certs/bad.example/tls.crt", "nothing")
			testkit.Check(s.t, os.Remove(filepath.Join(s.dir, "certs/half.example/tls.key")))
			testkit.Check(s.t, os.Mkdir(filepath.Join(s.dir, "certs/no_name"), 0o700))
		}, says: []string{
			"DIR/certs/bad.example", "DIR/certs/half.example: there is no tls.key", "DIR/certs/no_name",
			"1 certificates",
		}},
		{name: "no place for the audit log", yaml: "audit_file: DIR/none/audit.log\n", code: unwell},
		{name: "a FIFO for the audit log", yaml: "audit_file: DIR/fifo\n", code: unwell, prepare: func(s stage) {
			testkit.Check(s.t, syscall.Mkfifo(filepath.Join(s.dir, "fifo"), 0o600))
		}, says: []string{"lockstepd.yaml:1: audit_file: the audit log cannot be written there: DIR/fifo is not"}},
		{name: "no syslog", yaml: "audit_syslog: unix:DIR/none.sock\n", code: unwell, says: []string{
			"lockstepd.yaml:1: audit_syslog: the audit log cannot be written there: dial unixgram DIR/none.sock",
		}},
		{name: "syslog elsewhere", yaml: "audit_syslog: tcp://127.0.0.1:1\n", says: []string{
			"not checked: whether syslog answers at tcp://127.0.0.1:1",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, c.yaml)
			if c.prepare != nil {
				c.prepare(s)
			}
			before := testkit.Tree(s.t, s.dir)
			out, code := s.check()
			if after := testkit.Tree(s.t, s.dir); after != before {
				t.Errorf("the check has changed\n%s\nto\n%s", before, after)
			}
			err := s.start()
			if code != c.code || (err != nil) != (c.code == refused) {
				t.Errorf("the check ends with %d, want %d; the start says %v; the check:\n%s", code, c.code, err, out)
			}
			var says []string
			for _, words := range c.says {
				says = append(says, strings.ReplaceAll(words, "DIR", s.dir))
			}
			if err != nil {
				says = append(says, strings.Split(err.Error(), "\n")...)
			}
			for _, line := range says {
				if !strings.Contains(out, line) {
					t.Errorf("the check does not say %q:\n%s", line, out)
				}
			}
			if strings.Contains(out, "secret@") {
				t.Error("it shows a password")
			}
		})
	}
}

// TestACheckListensNowhereAndLocksNothing: it succeeds while another process has every address and
// the store, which it says. So it took none of them.
func TestACheckListensNowhereAndLocksNothing(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	testkit.Check(t, err)
	defer tcp.Close()
	s := newStage(t, "xds_listen: unix:DIR/xds.sock\nadmin_listen: "+tcp.Addr().String()+"\nmetrics_listen: "+
		tcp.Addr().String()+"\nnats_listen: "+tcp.Addr().String()+"\n")
	socket, err := net.Listen("unix", filepath.Join(s.dir, "xds.sock"))
	testkit.Check(t, err)
	defer socket.Close()
	out, code := s.check()
	if code != 0 || !strings.Contains(out, "not checked: whether the addresses are free") {
		t.Errorf("%d\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data directory: %v", err)
	}
}
