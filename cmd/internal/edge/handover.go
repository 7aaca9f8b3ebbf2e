package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// successorWithin is how long a new process has to be ready.
const successorWithin = time.Minute

// succeed waits for SIGHUP, which asks for a restart: a new process of the program and the configuration as they are on disk by now gets the listening sockets, and
// this one leaves when that one is ready. Where it does not become ready, this one goes on. It returns when requests have ended: until then SIGHUP, which would end
// this process, is meant for the new one, by somebody who does not know of it yet.
func (e *Edge) succeed(ctx context.Context, ended <-chan struct{}, leave func()) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var next *successor
	for {
		select {
		case <-hup:
		case <-ended:
			runtime.KeepAlive(next) // its connection
			return nil
		}
		switch {
		case next != nil:
			if err := next.Signal(syscall.SIGHUP); err != nil {
				e.log.Error("the new process was not asked for a restart", "pid", next.Pid, "error", err)
			}
		case ctx.Err() == nil: // else this one leaves, and nobody is to follow
			var err error
			if next, err = e.handOver(ctx); err != nil {
				e.log.Error("the new process did not take over; this one goes on", "error", err)
				continue
			}
			e.log.Info("a new process has taken over", "pid", next.Pid)
			e.notify(fmt.Sprintf("MAINPID=%d", next.Pid))
			leave()
		}
	}
}

// successor is a process that has our sockets.
type successor struct {
	*os.Process
	conn *os.File // by its end of which it sees whether we are still there
}

// handOver starts a process with our sockets, and returns it when it is ready.
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

// kinship makes the new process a child of systemd, where that runs us, as we are. A main process that is somebody else's child would be killed at once when the
// service is to stop, since systemd waits for its own children only (systemd 252, unit_kill_context), and its death would not be noticed.
func kinship() *syscall.SysProcAttr {
	if os.Getenv("NOTIFY_SOCKET") == "" || os.Getpid() == 1 { // clone(2) has nobody to give the child of a first process to
		return nil
	}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT}
}

// answer tells whoever waits that we are ready: the process that hands over, which systemd listens to until then (NotifyAccess=main), or systemd (Type=notify).
func (e *Edge) answer() {
	if e.before == nil {
		e.notify(daemon.SdNotifyReady)
		return
	}
	if _, err := e.before.Write([]byte{1}); err != nil {
		e.log.Warn("the process that handed over does not wait any more", "error", err)
	}
}

// refuse says that we will never be ready: the process that hands over goes on.
func (e *Edge) refuse() {
	if e.before != nil {
		e.before.Close()
	}
}

// outlast waits until the process that handed over has ended, too: systemd kills what the main process leaves behind (KillMode=mixed). That one began to drain before us.
func (e *Edge) outlast() {
	if e.before == nil {
		return
	}
	e.before.SetReadDeadline(time.Now().Add(e.cfg.Timeouts.Drain))
	e.before.Read(make([]byte, 1)) // which it never writes
	e.before.Close()
}

// notify tells systemd, where it runs us (sd_notify(3)).
func (e *Edge) notify(what string) {
	if _, err := daemon.SdNotify(false, what); err != nil {
		e.log.Warn("systemd was not told", "what", what, "error", err)
	}
}
