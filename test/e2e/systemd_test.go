package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestUnits: systemd starts, reloads, restarts and stops what deploy/systemd has, and brings back
// what was killed, while clients come, resume, and hold streams open. Only a kill turns any away.
func TestUnits(t *testing.T) {
	t.Parallel()
	if err := fleet.NoSystemd(); err != nil {
		t.Skip(err)
	}
	if !fleet.Secluded(t) {
		return
	}
	u := startUnits(t)
	other := u.edge("edge-2", "")
	u.awaitReady()
	u.awaitPhase("steady", 2)
	a := u.clients(u.node, other)

	u.reload(a)
	u.refuses(a)
	u.restart(a)
	u.killAfterReload(a)
	u.losesPlane(a)
	a.stop()
	u.stop()
}

// reload has a new process of a new program take over, and yet another one because of a signal to
// the process of before, whose requests go on.
func (u *units) reload(a *account) {
	u.t.Helper()
	open := u.hold()
	was, pid := u.life(), u.show(edgeUnit, "MainPID")
	u.ok(u.systemd.Install("lockstep-edge")) // in the place of the one that runs
	began := time.Now()
	next := u.reloads(pid)
	u.t.Logf("reload: a new process is the main one after %s", since(began))
	a.awaitKeyInUse()
	_, err := u.systemd.Run(u.ctx, "kill", "-HUP", pid) // as by somebody who looked a moment ago
	u.ok(err)
	last := u.follows(next)
	u.goesOn(open, 4)
	open.Close()
	u.ends(pid)
	u.ends(next)
	a.check("two reloads")
	if now := u.life(); now != was || u.show(edgeUnit, "MainPID") != last {
		u.t.Errorf("reload: the unit was %s, is %s; its main process is %s, want %s",
			was, now, u.show(edgeUnit, "MainPID"), last)
	}
	program, err := os.Readlink(filepath.Join(u.systemd.Proc(last), "exe"))
	if err != nil || program != "/usr/local/bin/lockstep-edge" {
		u.t.Errorf("reload: %q runs, %v", program, err)
	}
}

// refuses has a reload fail.
func (u *units) refuses(a *account) {
	u.t.Helper()
	const file = "/etc/lockstep/edge.yaml"
	good, err := os.ReadFile(u.systemd.Path(file))
	u.ok(err)
	was, pid := u.life(), u.show(edgeUnit, "MainPID")
	u.ok(os.WriteFile(u.systemd.Path(file), append(good, "nonsense: 1\n"...), 0o640))
	u.ctl("reload", edgeUnit)
	u.eventually(func() error {
		const refused = "the configuration was not reloaded; the one that was read before stays in force"
		if len(logged(u.log(edgeUnit), refused, "err")) == 0 {
			return errNotYet
		}
		return nil
	})
	u.ok(os.WriteFile(u.systemd.Path(file), good, 0o640))
	a.check("a reload that fails")
	if now := u.life(); now != was || u.show(edgeUnit, "MainPID") != pid {
		u.t.Errorf("a reload that fails: the unit was %s, is %s; its main process is %s, want %s",
			was, now, u.show(edgeUnit, "MainPID"), pid)
	}
}

// restart stops the edge, which lets its requests end, and starts another.
func (u *units) restart(a *account) {
	u.t.Helper()
	live, open, pid := u.ticket(u.node), u.hold(), u.show(edgeUnit, "MainPID")
	began := time.Now()
	u.leaves(open, "restart", edgeUnit)()
	u.t.Logf("restart: %s, with streams that end after a while", since(began))
	if now := u.show(edgeUnit, "MainPID"); now == pid {
		u.t.Errorf("restart: the main process is %s still", pid)
	}
	a.check("a restart")
	if !u.offered(u.node, live) {
		u.t.Error("restart: a session of before does not resume")
	}
}

// killAfterReload kills the main process while the one of before lets its requests end.
func (u *units) killAfterReload(a *account) {
	u.t.Helper()
	live, open, old := u.ticket(u.node), u.hold(), u.show(edgeUnit, "MainPID")
	defer open.Close()
	killed := u.reloads(old)
	a.downs(u.node)
	u.ctl("kill", "--kill-who=main", "--signal=KILL", edgeUnit)
	began := time.Now()
	u.back(edgeUnit, old, killed)
	u.t.Logf("kill -9: back after %s", since(began))
	a.ups(u.node)
	if !u.offered(u.node, live) {
		u.t.Error("kill -9: a session of before does not resume")
	}
	a.awaitKeyInUse()
	a.check("kill -9")
}

// losesPlane kills lockstepd, which comes back, and ends it: the edge starts from its last-good
// copy.
func (u *units) losesPlane(a *account) {
	u.t.Helper()
	pid, began := u.show(planeUnit, "MainPID"), time.Now()
	u.ctl("kill", "--kill-who=main", "--signal=KILL", planeUnit)
	u.back(planeUnit, pid)
	u.awaitPhase("steady", 2)
	u.t.Logf("kill -9 of lockstepd: its nodes are back after %s", since(began))

	ring, live := u.scope().Version, u.ticket(u.node)
	began = time.Now()
	u.stopped(planeUnit)
	u.t.Logf("stop of lockstepd: %s", since(began))
	began = time.Now()
	u.ctl("restart", edgeUnit)
	u.t.Logf("restart without lockstepd: %s", since(began))
	a.check("a restart without lockstepd")
	if used := logged(u.log(edgeUnit), lastGoodUsed, "version"); !slices.Equal(used, []string{ring}) {
		u.t.Errorf("restart without lockstepd: keys of %v are used, want %s", used, ring)
	}
	if !u.offered(u.node, live) {
		u.t.Error("restart without lockstepd: a session of before does not resume")
	}
}

// stop ends the edge and its socket, while a process of before a reload lets its requests end, too.
func (u *units) stop() {
	u.t.Helper()
	older := u.hold()
	old := u.show(edgeUnit, "MainPID")
	last := u.reloads(old)
	open, began := u.hold(), time.Now()
	wait := u.leaves(open, "stop", edgeSocket, edgeUnit)
	u.goesOn(older, 40) // for more than a second, which the main process would need to end
	older.Close()
	wait()
	u.t.Logf("stop: %s, with streams that end after a while", since(began))
	u.stopped(edgeUnit)
	for _, pid := range []string{old, last} {
		if exists(u.systemd.Proc(pid)) == nil {
			u.t.Errorf("stop: process %s goes on", pid)
		}
	}
	if err := u.node.listens(); !errors.Is(err, syscall.ECONNREFUSED) {
		u.t.Errorf("stop: a new connection: %v", err)
	}
}
