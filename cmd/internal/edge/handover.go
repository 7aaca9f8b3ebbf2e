package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// successorWithin is how long a new process has to be ready.
const successorWithin = time.Minute

// succeed waits for SIGHUP, which asks for a restart: a new process of the program and the configuration as they are on disk by now gets the listening sockets, and
// this one leaves when that one is ready. Where it does not become ready, this one goes on.
func (e *Edge) succeed(ctx context.Context, leave func()) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return nil
		}
		next, err := e.handOver(ctx)
		if err != nil {
			e.log.Error("the new process did not take over; this one goes on", "error", err)
			continue
		}
		e.log.Info("a new process has taken over", "pid", next)
		e.notify(fmt.Sprintf("MAINPID=%d", next))
		leave()
		return nil
	}
}

// handOver starts a process with our sockets, and returns its id when it is ready.
func (e *Edge) handOver(ctx context.Context) (pid int, err error) {
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	sockets, names, err := files(e.open)
	given := append(sockets, theirs)
	defer func() {
		for _, f := range given {
			f.Close()
		}
	}()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Env = append(os.Environ(), envSockets+"="+names)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, given
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	theirs.Close() // so that its end is the end of the pipe
	defer context.AfterFunc(ctx, func() { ours.SetReadDeadline(time.Unix(1, 0)) })()
	ours.SetReadDeadline(time.Now().Add(successorWithin))
	if _, err := ours.Read(make([]byte, 1)); err != nil {
		cmd.Process.Kill()
		if ended := cmd.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, fmt.Errorf("it ended before it was ready: %w; its log says why", ended)
		}
		return 0, fmt.Errorf("it was not ready within %s", successorWithin)
	}
	pid = cmd.Process.Pid
	return pid, cmd.Process.Release()
}

// answer tells whoever waits that we are ready: the process that handed over, and systemd (Type=notify).
func (e *Edge) answer() {
	if e.waiting != nil {
		if _, err := e.waiting.Write([]byte{1}); err != nil {
			e.log.Warn("the process that handed over does not wait any more", "error", err)
		}
		e.waiting.Close()
	}
	e.notify(daemon.SdNotifyReady)
}

// notify tells systemd, where it runs us (sd_notify(3)).
func (e *Edge) notify(what string) {
	if _, err := daemon.SdNotify(false, what); err != nil {
		e.log.Warn("systemd was not told", "what", what, "error", err)
	}
}
