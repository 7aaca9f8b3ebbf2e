package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/lockstep-tls/lockstep/cmd/internal/reload"
)

// successorWithin is how long a new process has to be ready.
const successorWithin = time.Minute

// Reloading tells e of SIGHUP, and how to read its configuration again. file is its path.
func (e *Edge) Reloading(file string, load func() (Config, error), hangup <-chan os.Signal) {
	e.file, e.load, e.hangup = file, load, hangup
}

// succeed waits for SIGHUP, which asks for a restart. It starts a new process, of the program and
// the configuration that are on disk by then, and gives it the listening sockets. This process
// leaves when the new one is ready, and goes on if it does not become ready, or if the
// configuration cannot be used. succeed returns when requests have ended. SIGHUP that comes until
// then is passed on. Somebody who does not know of the new process yet may send it.
func (e *Edge) succeed(ctx context.Context, ended <-chan struct{}, leave func()) error {
	var next *successor
	for {
		select {
		case <-e.hangup:
		case <-ended:
			runtime.KeepAlive(next) // next owns the connection
			return nil
		}
		switch {
		case next != nil:
			if err := next.Signal(syscall.SIGHUP); err != nil {
				e.log.Error("the new process was not asked for a restart", "pid", next.Pid, "error", err)
			}
		case ctx.Err() == nil: // else this process leaves without a successor
			if next = e.reload(ctx); next == nil {
				continue
			}
			e.log.Info("a new process has taken over", "pid", next.Pid)
			e.notify(fmt.Sprintf("MAINPID=%d", next.Pid))
			leave()
		}
	}
}

// reload reads the configuration, says how it differs from the one in force, and has a new process
// take over. It returns nil if this process goes on, and says why. A new process takes every
// setting over.
func (e *Edge) reload(ctx context.Context) (next *successor) {
	reload.New(reload.Config[Config]{
		Program: "lockstep-edge", File: e.file, Load: e.load, Settings: Config.Settings,
		Live: func(_, next Config) Config { return next },
		Apply: func(_, _ Config) (err error) {
			if next, err = e.handOver(ctx); err != nil {
				err = fmt.Errorf("the new process did not take over: %w", err)
			}
			return err
		},
		Log: e.log,
	}, e.cfg).Reload()
	return next
}

// successor is a process that has the sockets of this one.
type successor struct {
	*os.Process
	conn *os.File // conn ends when this process does. The successor watches its other end.
}

// handOver starts a process with the sockets of this one. It returns the process when that is
// ready.
func (e *Edge) handOver(ctx context.Context) (next *successor, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "hand-over"), os.NewFile(uintptr(ends[1]), "hand-over")
	defer func() {
		if err != nil {
			ours.Close()
		}
	}()
	sockets, names, err := files(e.open)
	given := append(sockets, theirs)
	defer func() {
		for _, f := range given {
			f.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Env = append(os.Environ(), envSockets+"="+names)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, given
	cmd.SysProcAttr = kinship()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	theirs.Close() // so that its end is the end of the connection
	defer context.AfterFunc(ctx, func() { ours.SetReadDeadline(time.Unix(1, 0)) })()
	ours.SetReadDeadline(time.Now().Add(successorWithin))
	if _, err := ours.Read(make([]byte, 1)); err != nil {
		cmd.Process.Kill()
		cmd.Wait() // fails where it is our parent's to wait for
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errors.New("it ended before it was ready; its log says why")
		}
		return nil, fmt.Errorf("it was not ready within %s", successorWithin)
	}
	return &successor{cmd.Process, ours}, nil
}

// kinship makes the new process a child of systemd, if systemd runs this one. Else systemd would
// kill the new main process at once when the service is to stop, and would not notice its death. It
// waits for its own children only (systemd 252, unit_kill_context).
func kinship() *syscall.SysProcAttr {
	if os.Getenv("NOTIFY_SOCKET") == "" || os.Getpid() == 1 {
		// clone(2) has nobody to give the child of a first process to
		return nil
	}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT}
}

// answer says that this process is ready. It says so to the process that hands over, to which
// systemd listens until then (NotifyAccess=main), or to systemd (Type=notify).
func (e *Edge) answer() {
	if e.before == nil {
		e.notify(daemon.SdNotifyReady)
		return
	}
	if _, err := e.before.Write([]byte{1}); err != nil {
		e.log.Warn("the process that handed over does not wait any more", "error", err)
	}
}

// refuse says that this process will never be ready. The process that hands over then goes on.
func (e *Edge) refuse() {
	if e.before != nil {
		e.before.Close()
	}
}

// outlast waits until the process that handed over has ended too, since systemd kills what the main
// process leaves behind (KillMode=mixed). That process began to drain earlier.
func (e *Edge) outlast() {
	if e.before == nil {
		return
	}
	e.before.SetReadDeadline(time.Now().Add(e.cfg.Timeouts.Drain))
	e.before.Read(make([]byte, 1)) // it never writes, so the read ends with that process
	e.before.Close()
}

// notify tells systemd about the state, if systemd runs this process (sd_notify(3)).
func (e *Edge) notify(what string) {
	if _, err := daemon.SdNotify(false, what); err != nil {
		e.log.Warn("systemd was not told", "what", what, "error", err)
	}
}
