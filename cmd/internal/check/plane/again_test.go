package plane

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/internal/testkit"
)

// load reads the configuration of a stage.
func (s stage) load() config.Config {
	s.t.Helper()
	c := config.Default()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(f)
	testkit.Check(s.t, c.Load(s.file, f, s.getenv))
	return c
}

// TestAReloadRefusesWhatAStartRefuses: a lockstepd runs, and its file is changed to name what is
// not there. The reload says what `--check` says, line by line, whether or not a setting could
// change without a restart.
func TestAReloadRefusesWhatAStartRefuses(t *testing.T) {
	t.Parallel()
	const base = "xds_listen: unix:DIR/x.sock\n"
	for _, c := range []struct {
		name, more string
		refused    bool
	}{
		{"nothing new", "", false},
		{"a period", "scopes: {default: {period: 30m}}\n", false},
		{"no template", "listeners:\n  template: DIR/none.yaml\n", true},
		{"no certificates", "certs: DIR/none\n", true},
		{"certificates", "certs: DIR\n", false},
		{"no policy", "policy: DIR/none.yaml\n", true},
		{"a bad policy", "policy: DIR/empty\n", true},
		{"no key", "kek: DIR/none.key\n", true},
		{"a new key", "kek: DIR/none.key\nkek_new: true\n", true}, // the store is not empty
		{"a key of the environment", "kek: env:LOCKSTEP_TEST_NO_KEY\n", false},
		{"no group", "xds_socket_group: no-such-group\n", true},
		{"no port", "metrics_listen: 127.0.0.1:99999\n", true},
		{"no port of the API", "admin_listen: 127.0.0.1:99999\n", true},
		{"no password", "store: redis://u@127.0.0.1:1?password_file=DIR/none\n", true},
		{"a store elsewhere", "store: redis://127.0.0.1:1\n", false},
		{"no mTLS", "xds_cert: DIR/none\nxds_key: DIR/none\nxds_client_ca: DIR/none\n", true},
		{"no URL", "events: nats://%zz\n", true},
		{"NATS off loopback", "nats_listen: 192.0.2.1:4222\n", true},
		{"a file for a directory", "data_dir: DIR/empty/data\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, base)
			used(s)
			s.write("empty", "")
			now := s.load()
			file := base + c.more
			if !strings.Contains(file, "admin_listen:") {
				file += "admin_listen: 127.0.0.1:0\n"
			}
			if !strings.Contains(file, "data_dir:") {
				file += "data_dir: DIR/data\n"
			}
			s.write("lockstepd.yaml", file)
			before := testkit.Tree(t, s.dir)
			err := Again(s.file, pflag.NewFlagSet("", pflag.ContinueOnError), s.getenv)(now, s.load())
			if after := testkit.Tree(t, s.dir); after != before {
				t.Errorf("the reload has changed\n%s\nto\n%s", before, after)
			}
			if (err != nil) != c.refused {
				t.Fatalf("the reload says %v", err)
			}
			if err == nil {
				return
			}
			said, _ := s.check()
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.Contains(said, "refused: "+line+"\n") || !strings.Contains(line, "lockstepd.yaml:") {
					t.Errorf("the reload says %q, and the check\n%s", line, said)
				}
			}
		})
	}
}
