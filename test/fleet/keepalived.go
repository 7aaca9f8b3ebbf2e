package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Keepalived says how deploy/keepalived/keepalived.conf is to be changed for two boxes, which are
// named edge-1 and edge-2 as in the file, and is one that runs.
type Keepalived struct {
	*Process
	VIP   string  // the address of the two
	Boxes [2]*Box // edge-1, edge-2
	Ready string  // host:port/path: the readiness of the proxy, as seen from its box
}

// Keepalived starts one in the box of f, which takes root: in a user namespace it runs no script.
// It writes nothing outside the fleet's folder. Kill kills its children too, so the address stays
// where it is.
func (f *Fleet) Keepalived(o Keepalived) (*Keepalived, error) {
	path, err := exec.LookPath("keepalived")
	if err != nil {
		return nil, fmt.Errorf("fleet: keepalived is not installed: type: make test-packages (%w)", err)
	}
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	name := "keepalived-" + f.box.Name
	file := filepath.Join(f.dir, name)
	if err := os.WriteFile(file+".conf", config, 0o644); err != nil {
		return nil, fmt.Errorf("fleet: configuration of %s: %w", name, err)
	}
	o.Process, err = f.Start(Command{
		Name: name,
		Path: path,
		Args: []string{"--vrrp", "--dont-fork", "--log-console", "--log-detail",
			"--no-syslog", "--config-id", f.box.Name,
			"--pid", file + ".pid", "--vrrp_pid", file + ".vrrp.pid", "--checkers_pid", file + ".checkers.pid",
			"--bfd_pid", file + ".bfd.pid", "--use-file", file + ".conf"},
	})
	return &o, err
}

// Restart starts it again. A child of one that was killed stays in the process table where nobody
// reaps orphans, and then keepalived takes its pid file for that of one that runs.
func (k *Keepalived) Restart() error {
	if err := k.Kill(); err != nil {
		return err
	}
	for _, file := range []string{".pid", ".vrrp.pid"} {
		if err := os.Remove(filepath.Join(k.dir, k.Name()+file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("fleet: pid file of %s: %w", k.Name(), err)
		}
	}
	return k.Process.Restart()
}

// config is that of deploy/. The script runs as whoever we are: the checkout may be closed to
// others, and keepalived trusts no folder on the way that somebody may write to.
func (o Keepalived) config() ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	deploy := filepath.Join(root, "deploy", "keepalived")
	b, err := os.ReadFile(filepath.Join(deploy, "keepalived.conf"))
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	changes := []string{
		"script_user nobody nogroup", "script_user root",
		"\tenable_script_security\n", "",
		"/etc/keepalived/lockstep-ready", filepath.Join(deploy, "lockstep-ready"),
		"127.0.0.1:18090/readyz", o.Ready,
		"192.0.2.10/24", o.VIP + "/24",
		"192.0.2.11", o.Boxes[0].IP,
		"192.0.2.12", o.Boxes[1].IP,
	}
	for i := 0; i < len(changes); i += 2 {
		if !bytes.Contains(b, []byte(changes[i])) {
			return nil, fmt.Errorf("fleet: deploy/keepalived/keepalived.conf has no %q any more", changes[i])
		}
	}
	return []byte(strings.NewReplacer(changes...).Replace(string(b))), nil
}

// State is what the latest life says that it is: MASTER (it has the address), BACKUP (it is ready
// to take it) or FAULT; "": it has not said yet.
func (k *Keepalived) State() (string, error) {
	b, err := os.ReadFile(k.LogFile())
	if err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	latest := b[max(0, bytes.LastIndex(b, []byte("Starting Keepalived"))):]
	i := bytes.LastIndex(latest, []byte(") Entering "))
	if i < 0 {
		return "", nil
	}
	words := strings.Fields(string(latest[i:]))
	return words[min(2, len(words)-1)], nil
}
