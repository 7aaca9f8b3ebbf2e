package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-tls/lockstep/store/memory"
)

// told gathers what [Config].Changed says.
type told struct {
	mu   sync.Mutex
	said []string
}

func (s *told) changed(sink string, err error, lacked Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf("%s down=%v lacks %d+%d", sink, err != nil, lacked.Lines, lacked.Refused))
}

func (s *told) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = nil
}

func (s *told) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.said, "\n")
}

// newest returns the newest line of the store that tells of missing ones.
func newest(t *testing.T, l *Log) Line {
	t.Helper()
	lines, err := l.Lines(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if lines[i].What == missedLine {
			return lines[i]
		}
	}
	return Line{}
}

// TestASinkSaysWhatItLacksOnceItTakesLines, without a further change, also if lockstepd was started
// anew meanwhile. Lines that nobody took are counted apart.
func TestASinkSaysWhatItLacksOnceItTakesLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir, mark := newFaulty(), filepath.Join(t.TempDir(), "log"), temp(t, "mark")
		var said told
		with := func(c *Config) { c.File, c.MarkFile, c.Changed = filepath.Join(dir, "audit.log"), mark, said.changed }
		l := open(t, s, with)
		stop := runs(t, l)
		synctest.Wait()
		if d := l.Degraded(); len(d) != 1 || !strings.Contains(d[0].Error(), "to the file: open ") ||
			said.String() != "file down=true lacks 0+0" {
			t.Fatalf("before the first line: %v, told %s", d, &said)
		}
		fill(t, l, 3)
		s.set(down)
		for range 2 {
			if _, err := l.Append(t.Context(), Entry{What: "x"}, Entry{What: "y"}); !errors.Is(err, ErrUnwritten) {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * markEvery)
		stop()
		l = open(t, s, with)
		defer runs(t, l)()
		time.Sleep(lookEvery)
		synctest.Wait()
		for i, want := range []string{
			"the disk is on fire; lines that no sink took: 4",
			"lines that other sinks took and this one lacks: 3; lines that no sink took: 4",
		} {
			if d := l.Degraded(); len(d) != 2 || !strings.HasSuffix(d[i].Error(), want) {
				t.Errorf("%v, want one to end in %q", d, want)
			}
		}
		s.set(nil)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookEvery)
		synctest.Wait()
		if d := l.Degraded(); len(d) > 0 {
			t.Error(d)
		}
		for _, want := range []string{"store down=false lacks 0+4", "file down=false lacks 3+4"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("told %s, want %s", &said, want)
			}
		}
		if line := newest(t, l); line.Number != 4 || line.Times != 0 ||
			!strings.Contains(line.Why, "lines that no sink took: 4; the disk is on fire") {
			t.Errorf("the store says %+v", line)
		}
		sound(t, l, 4)
		text, err := os.ReadFile(filepath.Join(dir, "audit.log"))
		if err != nil || bytes.Count(text, []byte("\n")) != 1 || !bytes.Contains(text, []byte(`"times":3`)) {
			t.Errorf("the file says %s %v", text, err)
		}
		said.clear()
		time.Sleep(10 * lookEvery)
		if said.String() != "" {
			t.Errorf("nothing happened, and it told %s", &said)
		}
		sound(t, l, 4)
	})
}

// TestAFailedWriteLeavesNoPieceOfALine: a full disk is not taken for tampering. The file is on a
// file system that is full after a page.
func TestAFailedWriteLeavesNoPieceOfALine(t *testing.T) {
	dir := t.TempDir()
	page := os.Getpagesize()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", page)); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "audit.log")
	l := open(t, memory.New(), func(c *Config) { c.File = file })
	for len(l.Degraded()) == 0 {
		fill(t, l, 1)
	}
	if d := l.Degraded(); !errors.Is(d[0], unix.ENOSPC) {
		t.Fatal(d)
	}
	text, err := os.ReadFile(file)
	if err != nil || len(text) > page || !bytes.HasSuffix(text, []byte("\n")) {
		t.Errorf("%d bytes, %v, that end in %q", len(text), err, text[max(0, len(text)-20):])
	}
	rs, err := l.VerifyLines(t.Context(), bytes.NewReader(text))
	if err != nil || len(rs) != 1 || len(rs[0].Problems) > 0 {
		t.Errorf("%+v %v", rs, err)
	}
}

// TestASpecialFileIsRefusedAndNeverWaitedFor.
func TestASpecialFileIsRefusedAndNeverWaitedFor(t *testing.T) {
	fifo := temp(t, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{fifo, "/dev/full", "/dev/null", t.TempDir()} {
		l := open(t, memory.New(), func(c *Config) { c.File = file })
		began := time.Now()
		fill(t, l, 1)
		if took := time.Since(began); took >= within {
			t.Errorf("%s: an append took %s", file, took)
		}
		if d := l.Degraded(); len(d) != 1 || !strings.Contains(d[0].Error(), file+" is not a regular file") {
			t.Errorf("%s: %v", file, d)
		}
		if err := LookAtFile(file); err == nil || err.Error() != file+" is not a regular file" {
			t.Errorf("%s: the look says %v", file, err)
		}
	}
}

// TestSyslogOverTCPThatHasGoneLosesNoLineInSilence: the connection was closed by the other end, and
// what was sent last may not have arrived. The next line goes to the new one.
func TestSyslogOverTCPThatHasGoneLosesNoLineInSilence(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l := open(t, memory.New(), func(c *Config) { c.Syslog = "tcp://" + server.Addr().String() })
	accept := func() (net.Conn, *bufio.Reader) {
		t.Helper()
		conn, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return conn, bufio.NewReader(conn)
	}
	read := func(r *bufio.Reader) string {
		t.Helper()
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	fill(t, l, 1)
	conn, r := accept()
	if line := read(r); !strings.HasPrefix(line, "<85>") || !strings.Contains(line, " lockstep-audit[") {
		t.Errorf("%q", line)
	}
	l.lookAtSinks(t.Context())
	fill(t, l, 2)
	conn.Close() // with two lines unread
	deadline := time.Now().Add(10 * time.Second)
	open := func() bool {
		_, err := l.sinks[1].use(t.Context(), func(context.Context) ([]Head, error) {
			return nil, ended(l.sinks[1].sink.(*syslogSink).conn)
		})
		return err == nil
	}
	for open() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	fill(t, l, 1)
	conn, r = accept()
	defer conn.Close()
	if line := read(r); !strings.Contains(line, `"n":4,`) {
		t.Errorf("%q", line)
	}
	l.lookAtSinks(t.Context())
	if line := read(r); !strings.Contains(line, `"n":5,`) || !strings.Contains(line, missedLine) ||
		!strings.Contains(line, "this one lacks: 2; syslog has gone, perhaps without these") {
		t.Errorf("%q", line)
	}
	server.Close()
	conn.Close()
	for time.Now().Before(deadline) && len(l.Degraded()) == 0 {
		l.lookAtSinks(t.Context())
	}
	if d := l.Degraded(); len(d) != 1 || !strings.Contains(d[0].Error(), "to the syslog: ") {
		t.Errorf("nobody listens: %v", d)
	}
}

// TestSyslogThatStandsStillIsGivenUp: its socket takes no more, and lines are not sent twice under
// one number.
func TestSyslogThatStandsStillIsGivenUp(t *testing.T) {
	path := temp(t, "sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := open(t, memory.New(), func(c *Config) { c.Syslog = "unix:" + path })
	sent := 0
	for ; len(l.Degraded()) == 0; sent++ {
		began := time.Now()
		fill(t, l, 1)
		if took := time.Since(began); took > 20*within {
			t.Fatalf("an append took %s", took)
		}
	}
	var all bytes.Buffer
	b := make([]byte, maxLine)
	take := func(n int) {
		t.Helper()
		for range n {
			n, err := conn.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b[:n])
		}
	}
	take(sent - 1) // the last one was not sent
	fill(t, l, 1)
	take(2)
	rs, err := l.VerifyLines(t.Context(), bytes.NewReader(all.Bytes()))
	if err != nil || len(rs) != 1 || len(rs[0].Problems) > 0 || rs[0].Lines != uint64(sent)+1 {
		t.Errorf("%d sent: %+v %v", sent, rs, err)
	}
	if !strings.Contains(all.String(), "this one lacks: 1") {
		t.Error("it does not say what is missing")
	}
}
