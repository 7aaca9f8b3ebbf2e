package edge

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/check"
	"github.com/lockstep-tls/lockstep/cmd/internal/check/checktest"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// checked is a folder with a configuration.
type checked struct {
	t   *testing.T
	dir string
}

// write writes a file below the folder. DIR in text stands for the folder.
func (c checked) write(name, text string) string {
	c.t.Helper()
	return checktest.Write(c.t, c.dir, name, text)
}

func noEnv(string) string { return "" }

// check runs the check, and returns what it printed, and its exit code.
func (c checked) check(file string) (string, int) {
	var out bytes.Buffer
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	cfg := Default()
	cfg.Flags(f)
	if err := Check(&out, file, f, noEnv); err != nil {
		return out.String(), check.ExitCode(err, nil)
	}
	return out.String(), 0
}

// start does what lockstep-edge does until it listens.
func (c checked) start(file string) error {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	cfg := Default()
	cfg.Flags(f)
	if err := cfg.Load(file, f, noEnv); err != nil {
		return err
	}
	e, err := New(cfg, slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer e.conn.Close()
	if err := e.listen(); err != nil {
		return err
	}
	e.closeAll()
	return nil
}

func (c checked) certify() {
	ca := identitytest.NewAuthority(c.t, "")
	cert, key := ca.SignUntil(&x509.Certificate{DNSNames: []string{"edge-1"}}, time.Now().Add(24*time.Hour))
	c.write("tls.crt", string(identitytest.PEM(cert)))
	c.write("tls.key", string(identitytest.KeyPEM(c.t, key)))
	c.write("ca.pem", string(identitytest.PEM(ca.Cert)))
}

// TestTheCheckAndTheStartAgree: every line with which a start is refused is said by the check
// before, which has changed nothing. It names the others, too.
func TestTheCheckAndTheStartAgree(t *testing.T) {
	t.Parallel()
	const least = "node: a\nadmin_listen: 127.0.0.1:0\n" +
		"listeners: [{address: \"127.0.0.1:0\"}]\nroutes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n"
	const mtls = "xds_cert: DIR/tls.crt\nxds_key: DIR/tls.key\nxds_ca: DIR/ca.pem\n"
	const fine, unwell, refused = 0, 3, 5
	for _, c := range []struct {
		name, yaml string
		prepare    func(checked)
		code       int
		says       []string // besides what the start says
	}{
		{name: "least", yaml: least, says: []string{
			"checked: the configuration DIR/edge.yaml", "a start would go on", "not checked: whether the control plane",
		}},
		{name: "a new data directory", yaml: least + "data_dir: DIR/data\n", says: []string{
			"note: the data directory DIR/data is made at the start", "note: the sealing key is made",
		}},
		{name: "a used data directory", yaml: least + "data_dir: DIR/data\n", prepare: func(c checked) {
			testkit.Check(c.t, c.start(filepath.Join(c.dir, "edge.yaml")))
		}, says: []string{"checked: the sealing key"}},
		{name: "keys and values", yaml: "node: a\nlog_level: loud\naccess_log: maybe\n", code: refused,
			says: []string{"edge.yaml:2: log_level", "edge.yaml:3: access_log", "listeners: there must be one"}},
		{name: "unknown keys", yaml: least + "nonsense: 1\nmore: 2\n", code: refused,
			says: []string{
				"edge.yaml:5: unknown key \"nonsense\"", "edge.yaml:6: unknown key \"more\"", "not checked: the files",
			}},
		{name: "mTLS", yaml: least + mtls, prepare: checked.certify, code: fine,
			says: []string{"checked: this edge's own certificate (edge-1, DIR/tls.crt), until"}},
		{name: "a certificate near its end", yaml: least + mtls, code: unwell, prepare: func(c checked) {
			c.certify()
			ca := identitytest.NewAuthority(c.t, "")
			soon := time.Now().Add(time.Hour)
			cert, key := ca.SignUntil(&x509.Certificate{DNSNames: []string{"edge-1"}}, soon)
			c.write("tls.crt", string(identitytest.PEM(cert)))
			c.write("tls.key", string(identitytest.KeyPEM(c.t, key)))
		}, says: []string{"not well: DIR/edge.yaml:5: this edge's own certificate", "expires in 59m"}},
		{name: "no certificates", yaml: least + mtls, code: refused,
			says: []string{
				"edge.yaml:5: xds_cert and xds_key: open DIR/tls.crt", "edge.yaml:7: xds_ca: open DIR/ca.pem",
			}},
		{name: "CAs of clients and upstreams", code: refused, prepare: func(c checked) { c.write("empty.pem", "") },
			yaml: "node: a\nlisteners:\n- address: \"127.0.0.1:0\"\n" +
				"- address: \"127.0.0.1:0\"\n  client_ca: DIR/none.pem\n" +
				"routes:\n- upstreams: [\"https://127.0.0.1:1\"]\n  upstream_ca: DIR/missing.pem\n" +
				"- host: b.example\n  upstreams: [\"https://127.0.0.1:1\"]\n  upstream_ca: DIR/empty.pem\n",
			says: []string{
				"edge.yaml:4: listeners[1]", "open DIR/none.pem",
				"edge.yaml:7: edge configuration: routes[0]: upstream_ca",
				"edge.yaml:9: edge configuration: routes[1]: upstream_ca: DIR/empty.pem: it holds no certificate",
			}},
		{name: "certificates for upstreams", code: unwell, prepare: func(c checked) {
			ca := identitytest.NewAuthority(c.t, "")
			cert, key := ca.SignUntil(&x509.Certificate{DNSNames: []string{"edge-1"}}, time.Now().Add(time.Hour))
			c.write("up.crt", string(identitytest.PEM(cert)))
			c.write("up.key", string(identitytest.KeyPEM(c.t, key)))
		}, yaml: strings.Replace(least, "{upstreams: [\"http:", "{upstream_cert: DIR/up.crt, "+
			"upstream_key: DIR/up.key, upstream_name: a.example, upstreams: [\"https:", 1),
			says: []string{
				"not well: DIR/edge.yaml:4: the certificate for upstreams (edge-1, DIR/up.crt): it expires in",
			}},
		{name: "faults of upstreams", code: refused, yaml: "node: a\nlisteners:\n- address: \"127.0.0.1:0\"\n" +
			"routes:\n- upstreams: [\"http://127.0.0.1:1\"]\n  upstream_name: a.example\n" +
			"- host: b.example\n  upstreams: [\"https://127.0.0.1:1\"]\n  upstream_cert: DIR/none.pem\n" +
			"- host: c.example\n  upstreams: [\"https://127.0.0.1:1\"]\n  upstream_idle: 25h\n",
			says: []string{
				"edge.yaml:5: routes[0]: edge configuration: upstream_name: none of the upstreams is https://",
				"edge.yaml:7: routes[1]: edge configuration: upstream_cert: upstream_cert and upstream_key go",
				"edge.yaml:10: routes[2]: edge configuration: upstream_idle: 25h0m0s is not between 0 and 24h",
			}},
		{name: "no port", yaml: strings.Replace(least, "{address: \"127.0.0.1:0", "{address: \"127.0.0.1:99999", 1),
			code: refused,
			says: []string{"edge.yaml:3: listeners[0].address: listen tcp: address 99999: invalid port"}},
		{name: "a file for a directory", yaml: least + "data_dir: DIR/file/data\n", code: refused,
			prepare: func(c checked) { c.write("file", "") }, says: []string{"edge.yaml:5: data_dir"}},
		{name: "a key that others read", yaml: least + "data_dir: DIR/data\nkek: DIR/key\n", code: refused,
			prepare: func(c checked) { testkit.Check(c.t, os.Chmod(c.write("key", "{}"), 0o644)) },
			says:    []string{"edge.yaml:6: kek"}},
		{name: "a key that is none", yaml: least + "data_dir: DIR/data\nkek: DIR/key\n", code: refused,
			prepare: func(c checked) { c.write("key", "{}") }},
		{name: "no folder for the key", yaml: least + "data_dir: DIR/data\nkek: DIR/none/key\n", code: refused},
		{name: "an unset variable", yaml: least + "data_dir: DIR/data\nkek: env:LOCKSTEP_TEST_NO_KEY\n", code: refused},
		{name: "a damaged copy", yaml: least + "data_dir: DIR/data\n", code: unwell, prepare: func(c checked) {
			testkit.Check(c.t, c.start(filepath.Join(c.dir, "edge.yaml")))
			c.write("data/last-good-rings", "nothing")
		}, says: []string{"not well: DIR/edge.yaml:5: there would be no last-good copy", "last-good-rings"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := checked{t, t.TempDir()}
			file := s.write("edge.yaml", c.yaml)
			if c.prepare != nil {
				c.prepare(s)
			}
			checktest.Agree(t, s.dir, c.code, c.says,
				func() (string, int) { return s.check(file) }, func() error { return s.start(file) })
		})
	}
}

func TestTheCheckSaysThatThereIsNoFile(t *testing.T) {
	out, code := checked{t, t.TempDir()}.check("")
	if code != 5 || !strings.Contains(out, "refused: the configuration: open") {
		t.Errorf("%d %s", code, out)
	}
}

// TestACheckListensNowhere: it succeeds while another process has every address. So it took none.
func TestACheckListensNowhere(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	testkit.Check(t, err)
	defer tcp.Close()
	c := checked{t, t.TempDir()}
	file := c.write("edge.yaml", fmt.Sprintf("node: a\nadmin_listen: %[1]q\nlisteners: [{address: %[1]q}]\n"+
		"routes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n", tcp.Addr()))
	if out, code := c.check(file); code != 0 || !strings.Contains(out, "not checked: whether the addresses are free") {
		t.Errorf("%d\n%s", code, out)
	}
	if err := c.start(file); err == nil {
		t.Error("the start takes an address that another has")
	}
}
