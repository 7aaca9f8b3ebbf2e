package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// units are lockstepd and an edge, as deploy/systemd has them.
type units struct {
	*stage
	systemd *fleet.Systemd
	node    *envoy // the edge
}

const (
	planeUnit  = "lockstepd.service"
	edgeUnit   = "lockstep-edge.service"
	edgeSocket = "lockstep-edge.socket"
)

// startUnits starts both units.
func startUnits(t *testing.T) *units {
	t.Helper()
	u := &units{
		stage: newStage(t, setup{later: true}),
		node:  &envoy{name: "edge-1", addr: "127.0.0.1:443", admin: "127.0.0.1:18090"},
	}
	var err error
	u.systemd, err = u.fleet.Systemd(u.ctx, bin)
	u.ok(err)
	t.Cleanup(func() {
		if t.Failed() {
			u.tell()
		}
		if err := u.systemd.Close(); err != nil {
			t.Error(err)
		}
	})
	// where the unit has them
	u.plane.XDS, u.plane.Data = "unix:"+u.systemd.Inside("/run/lockstep/xds.sock"), u.systemd.Path("/var/lib/lockstep")
	u.ok(os.Mkdir(u.systemd.Path("/etc/lockstep"), 0o755))
	u.ok(os.Rename(u.certs, u.systemd.Path("/etc/lockstep/certs")))
	u.certs = u.systemd.Path("/etc/lockstep/certs")
	u.ok(u.systemd.Give("/etc/lockstep/certs", "lockstep"))
	u.ok(os.WriteFile(u.systemd.Path("/etc/lockstep/edge.yaml"), u.config(), 0o644))
	u.ok(u.systemd.Give("/etc/lockstep/edge.yaml", "lockstep-edge"))

	// as usermod does
	groups, err := os.ReadFile(u.systemd.Path("/etc/group"))
	u.ok(err)
	joined := regexp.MustCompile(`(?m)^lockstep:.*:$`).ReplaceAllString(string(groups), "${0}lockstep-edge")
	u.ok(os.WriteFile(u.systemd.Path("/etc/group"), []byte(joined), 0o644))

	u.ctl("enable", "--now", planeUnit)
	u.awaitPhase("steady", 0)
	u.ctl("enable", "--now", edgeSocket, edgeUnit)
	resp, err := http.Get("http://" + u.node.admin + "/readyz")
	u.ok(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("systemd says that the edge has started, and its /readyz %s", resp.Status)
	}
	u.confined(planeUnit, "lockstep")
	u.confined(edgeUnit, "lockstep-edge")
	return u
}

// config is deploy/edge/edge.yaml with the socket's address and our upstream.
func (u *units) config() []byte {
	u.t.Helper()
	root, err := fleet.Root()
	u.ok(err)
	b, err := os.ReadFile(filepath.Join(root, "deploy", "edge", "edge.yaml"))
	u.ok(err)
	changes := []string{"\n- address: 127.0.0.1:18443\n", "\n- address: 0.0.0.0:443\n",
		"http://127.0.0.1:8080", "http://" + u.upstream.Addr}
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(string(b), changes[i]) {
			u.t.Fatalf("deploy/edge/edge.yaml has no %q any more", changes[i])
		}
	}
	return []byte(strings.NewReplacer(changes...).Replace(string(b)))
}

// reloads asks for a reload and returns the main process that comes after pid.
func (u *units) reloads(pid string) (next string) {
	u.t.Helper()
	u.ctl("reload", edgeUnit)
	return u.follows(pid)
}

// follows returns the main process that comes after pid.
func (u *units) follows(pid string) (next string) {
	u.t.Helper()
	u.eventually(func() error {
		if next = u.show(edgeUnit, "MainPID"); next == pid {
			return fmt.Errorf("the main process is %s still", pid)
		}
		return nil
	})
	return next
}

// hold opens streams at the edge.
func (u *units) hold() *traffic.Open {
	u.t.Helper()
	open, err := traffic.Hold(u.ctx, map[string]string{u.node.name: u.node.addr}, u.hosts[0], u.ca.Pool())
	u.ok(err)
	u.t.Cleanup(open.Close)
	return open
}

// goesOn waits until more messages have come through what is held open, and nothing was cut.
func (u *units) goesOn(open *traffic.Open, more int) {
	u.t.Helper()
	_, before := open.Cut()
	u.eventually(func() error {
		cut, beats := open.Cut()
		if len(cut) > 0 {
			u.t.Fatalf("these were cut: %v", cut)
		}
		if beats < before+more {
			return errNotYet
		}
		return nil
	})
}

// leaves begins a systemctl command that has the edge stop, sees that what is held open goes on,
// and closes that. The returned function waits for the command.
func (u *units) leaves(open *traffic.Open, args ...string) (wait func()) {
	u.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := u.systemd.Ctl(u.ctx, args...)
		done <- err
	}()
	u.eventually(func() error {
		if state := u.show(edgeUnit, "SubState"); state != "stop-sigterm" {
			return fmt.Errorf("the unit is %s", state)
		}
		return nil
	})
	u.goesOn(open, 4)
	open.Close()
	return func() {
		u.t.Helper()
		u.ok(<-done)
	}
}

// back waits until a unit is active with another main process.
func (u *units) back(unit string, than ...string) {
	u.t.Helper()
	u.eventually(func() error {
		pid, state := u.show(unit, "MainPID"), u.show(unit, "ActiveState")
		if state != "active" || pid == "0" || slices.Contains(than, pid) {
			return fmt.Errorf("%s is %s, its main process %s", unit, state, pid)
		}
		return nil
	})
}

// ends waits for the end of a process.
func (u *units) ends(pid string) {
	u.t.Helper()
	u.eventually(func() error {
		if exists(u.systemd.Proc(pid)) == nil {
			return fmt.Errorf("process %s goes on", pid)
		}
		return nil
	})
}

// stopped stops a unit and wants that it has not failed.
func (u *units) stopped(unit string) {
	u.t.Helper()
	u.ctl("stop", unit)
	if state, result := u.show(unit, "ActiveState"),
		u.show(unit, "Result"); state != "inactive" || result != "success" {
		u.t.Errorf("%s after its stop: %s, %s", unit, state, result)
	}
}

// life is when the edge's unit became active, when it was active no more, and how often it was
// restarted without being asked.
func (u *units) life() string {
	u.t.Helper()
	return fmt.Sprintf("active since %s, not before %s, %s restarts",
		u.show(edgeUnit, "ActiveEnterTimestampMonotonic"), u.show(edgeUnit, "ActiveExitTimestampMonotonic"),
		u.show(edgeUnit, "NRestarts"))
}

// confined demands of a unit's main process some of what the unit promises of it.
func (u *units) confined(unit, user string) {
	u.t.Helper()
	pid := u.show(unit, "MainPID")
	for _, file := range []string{"/proc/" + pid, "/var/lib/" + user} {
		owner, err := u.systemd.Run(u.ctx, "stat", "--format=%U %a", file)
		u.ok(err)
		if !strings.HasPrefix(owner, user+" ") || strings.HasPrefix(file, "/var") && !strings.HasSuffix(owner, " 700") {
			u.t.Errorf("%s: %s is of %s", unit, file, owner)
		}
	}
	for file, wants := range map[string][]string{
		"status": {
			"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n",
		},
		"limits":    {"Max core file size        0                    0 "},
		"mountinfo": {" / / ro,"},
	} {
		b, err := os.ReadFile(filepath.Join(u.systemd.Proc(pid), file))
		u.ok(err)
		for _, want := range wants {
			if !strings.Contains(string(b), want) {
				u.t.Errorf("%s: there is no %q in /proc/%s/%s:\n%s", unit, want, pid, file, b)
			}
		}
	}
	ours, err := os.Readlink("/proc/self/ns/user")
	u.ok(err)
	if theirs, err := os.Readlink(filepath.Join(u.systemd.Proc(pid), "ns/user")); err != nil || theirs == ours {
		u.t.Errorf("%s: it is in our user namespace, %s; %v", unit, theirs, err)
	}
}

func (u *units) ctl(args ...string) {
	u.t.Helper()
	_, err := u.systemd.Ctl(u.ctx, args...)
	u.ok(err)
}

func (u *units) show(unit, property string) string {
	u.t.Helper()
	value, err := u.systemd.Show(u.ctx, unit, property)
	u.ok(err)
	return value
}

// log is where what a unit's processes say is.
func (u *units) log(unit string) string {
	return u.systemd.Path("/var/log/" + strings.TrimSuffix(unit, ".service") + ".log")
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// tell logs what systemd and the units say.
func (u *units) tell() {
	status, _ := u.systemd.Ctl(context.Background(), "status", "--full", planeUnit, edgeSocket, edgeUnit)
	u.t.Log(status)
	for _, unit := range []string{planeUnit, edgeUnit} {
		b, _ := os.ReadFile(u.log(unit))
		u.t.Logf("the end of what %s says:\n%s", unit, b[max(0, len(b)-8000):])
	}
}
