package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// looks is a program that tries what another user can do with each file below the folders that are
// its arguments. It prints what works.
const looks = `
use IO::Socket::UNIX;
sub look {
	my $p = shift;
	lstat $p;
	if (-d _) {
		my @in;
		if (opendir my $d, $p) { print "lists $p\n"; @in = grep !/^\.\.?$/, readdir $d }
		if (mkdir "$p/.made") { rmdir "$p/.made"; print "makes $p\n" }
		look("$p/$_") for @in;
	} elsif (-S _) {
		IO::Socket::UNIX->new($p) and print "connects $p\n";
	} elsif (-f _) {
		open my $r, "<", $p and print "reads $p\n";
		open my $w, ">>", $p and print "writes $p\n";
	} else {
		readlink $p and print "follows $p\n";
	}
}
look($_) for @ARGV;
`

// asks is a program that sends its second argument to the address that is its first, and prints
// what comes back.
const asks = `
use IO::Socket::INET;
my $s = IO::Socket::INET->new($ARGV[0]) or die "$!\n";
print $s $ARGV[1]; print while <$s>;
`

// asStranger runs a program in perl, which every user of a Debian finds, as another user.
func (s *stage) asStranger(program string, args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.ctx, "/usr/bin/perl", append([]string{"-e", program}, args...)...)
	cmd.Dir, cmd.SysProcAttr = "/", stranger()
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// openly returns the command line of a program that makes files as openly as it can: nothing but
// the modes that it asks for keeps others away.
func openly(program string, args ...string) *exec.Cmd {
	return exec.Command("/bin/sh", append([]string{"-c", `umask 0; exec "$0" "$@"`, program}, args...)...)
}

// TestAnotherUserReadsNoFileThatWasMade: with a umask of 0, and with every folder opened for
// everybody. lockstepd, lockstep and lockstep-edge make their files so that another user reads,
// writes and connects to none of them. What is no secret is named here.
func TestAnotherUserReadsNoFileThatWasMade(t *testing.T) {
	t.Parallel()
	dir := publicly(t)
	s := newStage(t, setup{hosts: 1, later: true})
	in := func(name string) string { return filepath.Join(dir, name) }
	s.ok(os.Mkdir(in("bin"), 0o755))
	for _, program := range []string{"lockstepd", "lockstep-edge"} {
		s.ok(os.WriteFile(in("bin/"+program), fmt.Appendf(nil,
			"#!/bin/sh\numask 0\nexec %s/%s \"$@\"\n", bin, program), 0o755))
	}
	s.plane.Bin, s.plane.Data, s.plane.XDS = in("bin"), in("data"), "-"
	s.plane.Args = append(s.plane.Args, "--audit-file", in("audit.log"), "--kek="+in("kek"), "--kek-new")
	s.start()

	// An edge with a last-good copy.
	edgeAdmin, err := fleet.Addr()
	s.ok(err)
	listen, err := fleet.Addr()
	s.ok(err)
	edge, err := s.fleet.Edge(in("bin"), "edge-1", fmt.Appendf(nil,
		"node: edge-1\nxds: %q\ndata_dir: %s\nadmin_listen: %q\nlisteners: [{address: %q}]\n"+
			"routes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n", s.plane.XDS, in("edge"), edgeAdmin, listen), edgeAdmin)
	s.ok(err)
	s.ok(edge.Ready(s.ctx))
	s.awaitPhase("steady", 1)

	// What the CLI writes.
	run := func(args ...string) {
		t.Helper()
		cmd := openly(filepath.Join(bin, "lockstep"), append([]string{"--data-dir", s.plane.Data}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	s.ok(os.WriteFile(in("passphrase"), []byte("correct horse battery staple\n"), 0o600))
	run("backup", "--to", in("backup.age"), "--passphrase-file", in("passphrase"))
	run("pki", "init", "--dir", in("pki"))
	run("rotate", "--wait", "--timeout", "20s")

	// Each folder is opened. Then only the files' own modes keep others away.
	s.ok(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	}))
	seen := map[string]bool{}
	for line := range strings.Lines(s.asStranger(looks, dir)) {
		what, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		path, _ = filepath.Rel(dir, path)
		seen[what] = true
		switch {
		case what == "lists":
		case what == "reads" && (strings.HasPrefix(path, "bin/") || path == "pki/ca.pem" || path == "pki/ca.crt"):
		default:
			t.Errorf("another user %s %s", what, path)
		}
	}
	if !seen["lists"] || !seen["reads"] {
		t.Errorf("the test sees nothing: %v", seen)
	}
	for _, file := range []string{
		"data/store.db", "data/admin.token", "data/nats.token", "data/xds.sock", "kek", "audit.log", "backup.age",
		"edge/sealing.key", "pki/ca.key",
	} {
		st, err := os.Stat(in(file))
		s.ok(err) // else the test would not have tried it
		if mode := st.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has the mode %v", file, mode)
		}
	}

	// No process of theirs shows him anything.
	for name, pid := range map[string]int{"lockstepd": s.plane.PID(), "lockstep-edge": edge.PID()} {
		proc := fmt.Sprintf("/proc/%d/", pid)
		for _, f := range []string{"mem", "environ", "maps", "fd", "cwd"} {
			if out := s.asStranger(looks, proc+f); out != "" {
				t.Errorf("another user of %s: %s", name, out)
			}
		}
	}

	// The admin APIs. Three paths are open, and have no secret. Neither no token, nor a wrong one,
	// nor a proof that no replica made opens another one.
	get := func(addr, path, header string) string {
		t.Helper()
		return s.asStranger(asks, addr, fmt.Sprintf("GET %s HTTP/1.0\r\nHost: %s\r\n%s\r\n", path, addr, header))
	}
	secrets := []string{"PRIVATE KEY"}
	for _, file := range []string{"data/admin.token", "data/nats.token", "kek"} {
		b, err := os.ReadFile(in(file))
		s.ok(err)
		secrets = append(secrets, strings.TrimSpace(string(b)))
	}
	holds := func(what, text string) {
		t.Helper()
		if i := slices.IndexFunc(secrets, func(w string) bool { return strings.Contains(text, w) }); i >= 0 {
			t.Errorf("%s holds a secret", what)
		}
	}
	for _, addr := range []string{s.plane.Admin, edgeAdmin} {
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			answer := get(addr, path, "")
			if !strings.HasPrefix(answer, "HTTP/1.0 200") {
				t.Errorf("%s: %.100q", path, answer)
			}
			holds(path, answer)
		}
	}
	for _, header := range []string{
		"", "Authorization: Bearer wrong\r\n", "Lockstep-Replica: 1796000000 AAAA AAAA\r\n",
	} {
		for _, path := range []string{"/v1/status", "/v1/nodes", "/v1/audit", "/v1/pulse", "/debug/pprof/heap", "/"} {
			answer := get(s.plane.Admin, path, header)
			if !strings.HasPrefix(answer, "HTTP/1.0 403") && !strings.HasPrefix(answer, "HTTP/1.0 404") {
				t.Errorf("%s with %q: %.100q", path, header, answer)
			}
		}
	}
	if answer := get(edgeAdmin, "/debug/pprof/heap", ""); !strings.HasPrefix(answer, "HTTP/1.0 404") {
		t.Errorf("the edge: %.100q", answer)
	}

	// NATS takes nobody without the token.
	for _, token := range []string{"", "wrong"} {
		if conn, err := nats.Connect("nats://"+s.plane.NATS, nats.Token(token), nats.NoReconnect()); err == nil {
			conn.Close()
			t.Errorf("NATS let somebody in with the token %q", token)
		}
	}

	// What is printed to be passed on holds no secret.
	holds("a bootstrap for Envoy", s.mustRun("bootstrap", "envoy", "--node", "n", "--host", s.hosts[0],
		"--listen", "127.0.0.1:1", "--upstream", "127.0.0.1:2"))
	holds("a bootstrap for an edge", s.mustRun("bootstrap", "edge", "--node", "n"))
	holds("status", s.mustRun("-o", "json", "status"))
	holds("events", s.mustRun("-o", "json", "events"))
	for _, log := range []string{s.plane.LogFile(), edge.LogFile()} {
		b, err := os.ReadFile(log)
		s.ok(err)
		holds("the log", string(b))
	}
}

// TestAnotherUserSeesNoMoreThanThreePathsOnAMetricsAddress.
func TestAnotherUserSeesNoMoreThanThreePathsOnAMetricsAddress(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1, later: true})
	addr, err := fleet.Addr()
	s.ok(err)
	s.plane.Args = append(s.plane.Args, "--metrics-listen", addr)
	s.start()
	token, err := os.ReadFile(filepath.Join(s.plane.Data, "admin.token"))
	s.ok(err)
	for path, want := range map[string]int{
		"/metrics": 200, "/healthz": 200, "/readyz": 200, "/v1/status": 404, "/debug/pprof/heap": 404, "/": 404,
	} {
		req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://"+addr+path, nil)
		s.ok(err)
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token))) // no use
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		s.ok(err)
		_, err = io.Copy(io.Discard, resp.Body)
		s.ok(err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
}
