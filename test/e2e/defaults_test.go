package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// stranger is a user of the machine who is neither root nor the user of lockstepd. Its groups are
// its own and those that are named.
func stranger(groups ...uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61234, Gid: 61234, Groups: groups}}
}

// connects has another user connect to a socket or to host:port. It returns what the kernel says.
func (s *stage) connects(who *syscall.SysProcAttr, addr string) error {
	s.t.Helper()
	// perl is where every user of a Debian finds it
	cmd := exec.CommandContext(s.ctx, "/usr/bin/perl", "-MIO::Socket::UNIX", "-MIO::Socket::INET", "-e",
		`$_ = shift; s/^unix:// ? IO::Socket::UNIX->new($_) : IO::Socket::INET->new($_) or die "$!\n"`, addr)
	cmd.Dir, cmd.SysProcAttr = "/", who
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// publicly makes a folder that every user may enter, unlike those of tests. The fleet's processes
// keep their files there, so that nothing but their own modes keeps others away.
func publicly(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can try things as another user")
	}
	dir, err := os.MkdirTemp("", "public-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// mode is that of a file, with the number of its group.
func (s *stage) mode(path string) (fs.FileMode, uint32) {
	s.t.Helper()
	st, err := os.Stat(path)
	s.ok(err)
	return st.Mode().Perm(), st.Sys().(*syscall.Stat_t).Gid
}

// TestAnotherUserGetsNothingByDefault: lockstepd and Envoy without a setting for where they meet.
// An Envoy of the same user serves by the socket that bootstrap found. Another user is refused,
// even where the data directory is open.
func TestAnotherUserGetsNothingByDefault(t *testing.T) {
	t.Parallel()
	dir := publicly(t)
	s := newStage(t, setup{hosts: 1, later: true})
	s.plane.XDS, s.plane.Data = "-", filepath.Join(dir, "data")
	s.start()
	s.ok(os.Chmod(s.plane.Data, 0o755))
	if err := s.connects(nil, s.plane.XDS); err != nil {
		t.Errorf("the own user: %v", err)
	}
	if err := s.connects(stranger(), s.plane.XDS); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("another user: %v", err)
	}
	// both nodes come without --xds and --admin
	for _, name := range []string{"edge-1", "edge-2"} {
		e := s.place(name)
		r := s.lockstep("bootstrap", "envoy", "--node", name, "--host", s.hosts[0], "--listen", e.addr,
			"--upstream", s.upstream.Addr, "--ticket-lifetime", lifetime.String())
		words, ok := strings.CutPrefix(r.err, "admin address: ")
		if e.admin, _, _ = strings.Cut(words, " "); r.code != 0 || !ok || !strings.Contains(r.out, "pipe: {path: ") {
			t.Fatalf("%+v", r)
		}
		s.run(e, []byte(r.out))
	}
	s.awaitReady()
	s.awaitPhase("steady", 2)
	for _, e := range s.envoys {
		s.ok(s.reaches(e, s.hosts[0]))
	}
	s.mustRun("status") // nothing is wrong
	// The socket of a killed process is replaced, and nodes come back to it.
	s.ok(s.plane.Kill())
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	s.awaitPhase("steady", 2)
}

// TestAGroupOrAPolicyOpensTheSocketToThoseItNames.
func TestAGroupOrAPolicyOpensTheSocketToThoseItNames(t *testing.T) {
	t.Parallel()
	dir := publicly(t)
	s := newStage(t, setup{hosts: 1, later: true})
	const group = 61235
	s.plane.XDS = "unix:" + dir + "/own/s"
	s.plane.Args = append(s.plane.Args, "--xds-socket-group", fmt.Sprint(group))
	s.start()
	if mode, gid := s.mode(dir + "/own"); mode != 0o750 || gid != group {
		t.Errorf("the directory has the mode %v and the group %d", mode, gid)
	}
	if mode, gid := s.mode(dir + "/own/s"); mode != 0o660 || gid != group {
		t.Errorf("the socket has the mode %v and the group %d", mode, gid)
	}
	if err := s.connects(stranger(group), s.plane.XDS); err != nil {
		t.Errorf("a member of the group: %v", err)
	}
	if err := s.connects(stranger(), s.plane.XDS); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("who is none: %v", err)
	}
	// a live socket is not taken away from its process
	out, err := exec.CommandContext(s.ctx, filepath.Join(bin, "lockstepd"), "--data-dir", s.path("second"),
		"--admin-listen", "127.0.0.1:0", "--xds-listen", s.plane.XDS).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "xds_listen: "+dir+"/own/s is in use by another process") {
		t.Errorf("%v: %s", err, out)
	}
	s.ok(s.plane.Stop(patience))

	// With a policy the socket is where others reach it, and the rules decide.
	s.plane.Data, s.plane.XDS = s.path("third"), "-"
	s.plane.Env = []string{"RUNTIME_DIRECTORY=" + dir + "/run"}
	s.policy("- {identity: \"unix:uid=61234\", scopes: [default], names: [\"*\"]}\n")
	s.plane.Args = append(s.plane.Args[:len(s.plane.Args)-2], "--policy", s.path("policy.yaml"))
	s.start()
	if err := s.connects(stranger(), "unix:"+dir+"/run/xds.sock"); err != nil {
		t.Errorf("a user whom the policy names: %v", err)
	}
	if found := s.mustRun("bootstrap", "edge", "--node", "e"); !strings.Contains(found, dir+"/run/xds.sock") {
		t.Errorf("bootstrap found %s", found)
	}
	s.mustRun("status")
}

// TestPlaintextForEverybodyMustBeSaid: over TCP without a policy. Then it is a warning, and a line
// of status.
func TestPlaintextForEverybodyMustBeSaid(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1, later: true})
	var err error
	s.plane.XDS, err = fleet.Addr()
	s.ok(err)
	out, err := exec.CommandContext(s.ctx, filepath.Join(bin, "lockstepd"), "--data-dir", s.path("no"),
		"--admin-listen", "127.0.0.1:0", "--xds-listen", s.plane.XDS).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "would get every private key") ||
		!strings.Contains(string(out), "--xds-open") {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(s.path("no")); err == nil {
		t.Error("a data directory was made all the same")
	}
	s.plane.Args = append(s.plane.Args, "--xds-open")
	s.start()
	if log := s.plane.LogTail(100); !strings.Contains(log, `"WARN"`) || !strings.Contains(log, "xds_open: whoever") {
		t.Errorf("the log warns of nothing:\n%s", log)
	}
	r := s.lockstep("status")
	if r.code != 3 || !strings.Contains(r.out+r.err, "xds_open: whoever can connect to "+s.plane.XDS) {
		t.Errorf("%+v", r)
	}
	if os.Getuid() == 0 {
		s.ok(s.connects(stranger(), s.plane.XDS))
	}
}

// TestAStartAtTheDefaultPlaceMakesNoOtherFleet: as a user with a home. The data of an earlier
// version in the working directory are not forgotten, and a missing file of --kek is not replaced.
func TestAStartAtTheDefaultPlaceMakesNoOtherFleet(t *testing.T) {
	t.Parallel()
	dir := publicly(t)
	s := newStage(t, setup{hosts: 1, later: true})
	for _, program := range []string{"lockstepd", "lockstep"} { // others cannot enter the checkout
		b, err := os.ReadFile(filepath.Join(bin, program))
		s.ok(err)
		s.ok(os.WriteFile(filepath.Join(dir, program), b, 0o755))
	}
	home, work := filepath.Join(dir, "home"), filepath.Join(dir, "work")
	for _, d := range []string{home, work, work + "/lockstep-data"} {
		s.ok(os.Mkdir(d, 0o755))
		s.ok(os.Chown(d, 61234, 61234))
	}
	as := func(program string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(s.ctx, filepath.Join(dir, program), args...)
		cmd.Dir, cmd.SysProcAttr = work, stranger()
		cmd.Env = []string{"XDG_STATE_HOME=" + home}
		return cmd
	}
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := as("lockstepd", append([]string{"--admin-listen", "127.0.0.1:0"}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v, want %q: %s", args, err, want, out)
		}
	}
	s.ok(os.WriteFile(work+"/lockstep-data/store.db", nil, 0o600))
	refused("give --data-dir ./lockstep-data to go on with these keys")
	if _, err := os.Stat(filepath.Join(home, "lockstep")); err == nil {
		t.Error("another fleet was begun all the same")
	}
	s.ok(os.RemoveAll(work + "/lockstep-data"))
	refused("kek: there is no sealing key", "--kek", filepath.Join(home, "disk", "kek"))
	refused("no such file or directory", "--kek", filepath.Join(home, "disk", "kek"), "--kek-new")

	d := as("lockstepd", "--admin-listen", "127.0.0.1:0", "--kek", filepath.Join(home, "kek"), "--kek-new")
	log, err := os.Create(s.path("default.log"))
	s.ok(err)
	d.Stderr = log
	s.ok(d.Start())
	t.Cleanup(func() { d.Process.Kill(); d.Wait(); log.Close() })
	s.eventually(func() error {
		out, err := as("lockstep", "status").CombinedOutput() // it finds the same place
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	b, err := os.ReadFile(s.path("default.log"))
	s.ok(err)
	if place := filepath.Join(home, "lockstep"); !strings.Contains(string(b), `"data directory","path":"`+place+`"`) {
		t.Errorf("the log does not say where the data are:\n%s", b)
	}
	if mode, _ := s.mode(filepath.Join(home, "kek")); mode != 0o600 {
		t.Errorf("the key has the mode %v", mode)
	}
}

// TestAnEdgeSaysWhichSettingNamesAnAddressThatIsTaken: two edges of one machine with the same
// configuration but for the node.
func TestAnEdgeSaysWhichSettingNamesAnAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1, later: true})
	admin, err := fleet.Addr()
	s.ok(err)
	listen, err := fleet.Addr()
	s.ok(err)
	run := func(node, listen string) *exec.Cmd {
		file := s.file(node+".yaml", fmt.Appendf(nil, "node: %s\nxds: %q\nadmin_listen: %q\n"+
			"listeners: [{address: %q}]\nroutes: [{upstreams: [\"http://127.0.0.1:1\"]}]\n",
			node, s.plane.XDS, admin, listen))
		return exec.CommandContext(s.ctx, filepath.Join(bin, "lockstep-edge"), "--config", file)
	}
	first := run("e1", listen)
	s.ok(first.Start())
	t.Cleanup(func() { first.Process.Kill(); first.Wait() })
	s.eventually(func() error { return s.connects(nil, admin) })
	for setting, at := range map[string]string{"admin_listen": "127.0.0.1:0", "listeners[0].address": listen} {
		out, err := run("e2", at).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "lockstep-edge: "+setting) ||
			!strings.Contains(string(out), "give this one an address of its own") {
			t.Errorf("%s: %v: %s", setting, err, out)
		}
	}
}
