package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Command is a program to be run.
type Command struct {
	Name  string // names the log file, Dir()/<name>.log
	Path  string
	Args  []string
	Env   []string    // added to this process's own
	Ready string      // the URL that answers 200 when the program is ready; "" when there is none
	TLS   *tls.Config // for Ready; nil: the URL is plaintext

	apart uintptr // namespaces of its own: clone flags
}

// Process is a program that runs, or ran. All methods are safe for concurrent use.
type Process struct {
	c   Command
	dir string
	box *Box

	mu  sync.Mutex // one start or stop at a time
	run *run
}

// run is one life of a process.
type run struct {
	pid  int
	done chan struct{} // closed at its end
	err  error         // how it ended; read after done
}

// Start starts a program. Its standard output and error go to the log, to which a restart appends.
func (f *Fleet) Start(c Command) (*Process, error) {
	p := &Process{c: c, dir: f.dir, box: f.box}
	if err := p.Restart(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.procs = append(f.procs, p)
	f.mu.Unlock()
	return p, nil
}

// Restart starts the program again with the same arguments. It kills it first if it still runs.
func (p *Process) Restart() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.kill(); err != nil {
		return err
	}
	log, err := os.OpenFile(p.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("fleet: log of %s: %w", p.c.Name, err)
	}
	path, args := p.box.Enter(p.c.Path, p.c.Args...)
	cmd := exec.Command(path, args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), p.c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own keeps a Ctrl-C for the caller, who ends things in order; the death signal
	// is for when it cannot.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: p.c.apart}
	r := &run{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that started the child ends, so this
		// one stays until the child has.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := cmd.Start()
		if err == nil {
			r.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			r.err = cmd.Wait()
			close(r.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("fleet: start %s: %w", p.c.Name, err)
	}
	p.run = r
	return nil
}

// Name is Command.Name.
func (p *Process) Name() string { return p.c.Name }

// PID is the process id of the latest life.
func (p *Process) PID() int { return p.life().pid }

// Done is closed when the latest life has ended.
func (p *Process) Done() <-chan struct{} { return p.life().done }

func (p *Process) life() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// Ready waits until the program answers 200 at Command.Ready. If the program ends meanwhile, or ctx
// does, the error holds the end of the log.
func (p *Process) Ready(ctx context.Context) error {
	r := p.life()
	client := http.Client{
		Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: p.c.TLS},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var dead bool
	err := Until(ctx, func() error {
		select {
		case <-r.done:
			dead = true
			cancel()
			return fmt.Errorf("it ended: %v", r.err)
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.c.Ready, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s says %s", p.c.Ready, resp.Status)
		}
		return nil
	})
	switch {
	case dead:
		return fmt.Errorf("fleet: %s ended before it was ready: %v; its log ends:\n%s", p.c.Name, r.err, p.LogTail(20))
	case err != nil:
		return fmt.Errorf("fleet: %s is not ready: %w; its log ends:\n%s", p.c.Name, err, p.LogTail(20))
	}
	return nil
}

// Stop sends SIGTERM and waits. A process that has not ended after the timeout is killed, and that
// is an error, as is an exit status other than 0.
func (p *Process) Stop(timeout time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.run.done:
		if p.run.err != nil {
			return fmt.Errorf("fleet: %s after SIGTERM: %w", p.c.Name, p.run.err)
		}
		return nil
	case <-time.After(timeout):
		p.signal(syscall.SIGKILL)
		<-p.run.done
		return fmt.Errorf("fleet: %s did not end within %v of SIGTERM and was killed", p.c.Name, timeout)
	}
}

// Kill sends SIGKILL, which also ends a paused process, and waits for its end. Killing what has
// ended does nothing.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kill()
}

func (p *Process) kill() error {
	if p.run == nil { // the first start
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.run.done
	return nil
}

// Pause stops the process in its tracks (SIGSTOP): its connections stay open and nobody answers.
// Each of its threads has stopped when it returns: on a busy machine some run on for a while.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); !stopped(p.PID()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("fleet: %s does not stop", p.c.Name)
		}
	}
	return nil
}

// stopped reports whether no thread of the process runs; so it is with one that has ended.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		if rest := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(rest, []byte(" T")) &&
			!bytes.HasPrefix(rest, []byte(" Z")) {
			return false
		}
	}
	return true
}

// Resume lets a paused process go on (SIGCONT).
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Signal sends a signal; to a process that has ended, nothing.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(s)
}

func (p *Process) signal(s syscall.Signal) error {
	select {
	case <-p.run.done: // its id may belong to another by now
		return nil
	default:
	}
	if err := syscall.Kill(-p.run.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("fleet: %v to %s: %w", s, p.c.Name, err)
	}
	return nil
}

// LogFile is the path of the log.
func (p *Process) LogFile() string { return filepath.Join(p.dir, p.c.Name+".log") }

// LogTail is the last lines of the log.
func (p *Process) LogTail(lines int) string {
	b, err := os.ReadFile(p.LogFile())
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
