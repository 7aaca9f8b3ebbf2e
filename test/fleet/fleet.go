package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Fleet is a folder and the processes that were started in it. All methods are safe for concurrent
// use.
type Fleet struct {
	dir string
	box *Box // where processes are started; nil: here
	*started
	valkey string // the valkey-server that runs in the place of redis-server; "" is redis-server
}

type started struct {
	mu      sync.Mutex
	procs   []*Process
	sockets []string // folders of sockets
}

// New returns a fleet that keeps its files in dir, which is made if it is not there and never
// removed. The caller closes it.
func New(dir string) (*Fleet, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return &Fleet{dir: dir, started: &started{}}, nil
}

// Dir is the folder of the fleet, an absolute path.
func (f *Fleet) Dir() string { return f.dir }

// Close kills every process and waits for its end.
func (f *Fleet) Close() error {
	f.mu.Lock()
	procs, sockets := f.procs, f.sockets
	f.procs, f.sockets = nil, nil
	f.mu.Unlock()
	var errs []error
	for _, p := range procs {
		errs = append(errs, p.Kill())
	}
	for _, dir := range sockets {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// Processes returns all that was started, in order.
func (f *Fleet) Processes() []*Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Process(nil), f.procs...)
}

// TB is what a fleet needs of a test.
type TB interface {
	Helper()
	TempDir() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// ForTest returns a fleet that is closed with the test, and shows the end of every log if the test
// failed.
func ForTest(t TB) *Fleet {
	t.Helper()
	f, err := New(t.TempDir())
	if err == nil {
		var root string
		if root, err = Root(); err == nil {
			err = dependOn(root)
		}
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		procs := f.Processes()
		if err := f.Close(); err != nil {
			t.Logf("%v", err)
		}
		if t.Failed() {
			for _, p := range procs {
				t.Logf("the end of %s's log:\n%s", p.Name(), p.LogTail(60))
			}
		}
	})
	return f
}

// In is the fleet as seen from a box: what it starts runs there and listens on the box's address.
// All else is shared with f.
func (f *Fleet) In(b *Box) *Fleet { return &Fleet{f.dir, b, f.started, f.valkey} }

// addr is a new address, for a server that f is about to start.
func (f *Fleet) addr() (string, error) {
	if f.box == nil {
		return Addr()
	}
	port, err := Port()
	return net.JoinHostPort(f.box.IP, strconv.Itoa(port)), err
}

// Socket returns an address unix:/path for a socket that nobody has made yet. The path is short,
// since it may have 107 bytes only. Its folder is removed when the fleet is closed.
func (f *Fleet) Socket() (string, error) {
	dir, err := os.MkdirTemp("", "xds-")
	if err != nil {
		return "", fmt.Errorf("fleet: %w", err)
	}
	f.mu.Lock()
	f.sockets = append(f.sockets, dir)
	f.mu.Unlock()
	return "unix:" + filepath.Join(dir, "s"), nil
}

// Run runs a program to its end and returns its standard output. The error holds the exit status
// and what it wrote to standard error.
func (f *Fleet) Run(ctx context.Context, program string, args ...string) ([]byte, error) {
	path, args := f.box.Enter(program, args...)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = f.dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return out, fmt.Errorf("fleet: %s %v: %w: %s", filepath.Base(program), args, err, exit.Stderr)
		}
		return out, fmt.Errorf("fleet: %s %v: %w", filepath.Base(program), args, err)
	}
	return out, nil
}

// Until calls check every 20 ms until it returns nil. When ctx ends, the error holds check's last
// one.
func Until(ctx context.Context, check func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}
