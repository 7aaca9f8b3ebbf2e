package transport

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whoever may read a directory can hold a lock on it, and keeps nobody from starting.
func TestALockOfSomebodyElseKeepsNoSocketFromBeingOpened(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	l, err := Socket{Log: slog.New(slog.NewTextHandler(&said, nil))}.Listen("unix:" + filepath.Join(path, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !strings.Contains(said.String(), "dir="+path) {
		t.Errorf("the log says %q", said.String())
	}
}

// A turn that comes in time is waited for.
func TestASocketWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	var dirs [2]*os.File
	for i := range dirs {
		var err error
		if dirs[i], err = openDir(path, true); err != nil {
			t.Fatal(err)
		}
		defer dirs[i].Close()
	}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	turn(dirs[0], time.Minute, log)
	done := make(chan struct{})
	go func() { defer close(done); turn(dirs[1], time.Minute, log) }()
	select {
	case <-done:
		t.Fatal("two have their turn at once")
	case <-time.After(50 * time.Millisecond):
	}
	dirs[0].Close()
	<-done
	if said.Len() > 0 {
		t.Errorf("the log says %q", said.String())
	}
}
