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
	"syscall"
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
		if took := time.Since(began); took >= patient {
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
	confirmed(t, l)
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

// confirmed waits until syslog has confirmed all lines.
func confirmed(t *testing.T, l *Log) {
	t.Helper()
	for deadline := time.Now().Add(patient); ; time.Sleep(time.Millisecond) {
		l.lookAtSinks(t.Context())
		if n := unsure(t, l); n == 0 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%d lines are not confirmed", n)
		}
	}
}

// unsure is how many lines were sent and are not confirmed.
func unsure(t *testing.T, l *Log) (n int) {
	t.Helper()
	if _, err := l.sinks[1].use(t.Context(), func(context.Context) ([]Head, error) {
		n = l.sinks[1].sink.(*syslogSink).sent
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// smallListener is one whose connections have small buffers, so that they are full soon.
func smallListener(t *testing.T) (net.Listener, error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10)
		})
		return errors.Join(err, set)
	}}
	return c.Listen(t.Context(), "tcp", "127.0.0.1:0")
}

// smallBuffer does the same with the end of l.
func smallBuffer(t *testing.T, l *Log) {
	t.Helper()
	if _, err := l.sinks[1].use(t.Context(), func(context.Context) ([]Head, error) {
		return nil, l.sinks[1].sink.(*syslogSink).conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestSyslogOverTCPThatConfirmsNothingIsDown: the other end reads no more, until all buffers are
// full. A line that waits in one of this machine is not known to have arrived.
func TestSyslogOverTCPThatConfirmsNothingIsDown(t *testing.T) {
	server, err := smallListener(t)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l := open(t, memory.New(), func(c *Config) { c.Syslog = "tcp://" + server.Addr().String() })
	fill(t, l, 1)
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// It also says much, behind which its end must be found.
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	confirmed(t, l)
	smallBuffer(t, l)
	deadline := time.Now().Add(patient)
	for len(l.Degraded()) == 0 {
		if time.Now().After(deadline) {
			t.Fatalf("it is called well, and %d lines are not confirmed", unsure(t, l))
		}
		if l.lookAtSinks(t.Context()); unsure(t, l) == 0 {
			fill(t, l, 10)
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if d := l.Degraded(); !strings.Contains(d[0].Error(), "to the syslog: it does not confirm ") {
		t.Fatal(d)
	}
	lost := unsure(t, l)
	conn.Close()
	for l.marks.gap("syslog/r1").IsZero() && time.Now().Before(deadline) {
		if l.lookAtSinks(t.Context()); unsure(t, l) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if g := l.marks.gap("syslog/r1"); lost == 0 || g.Lines != lost {
		t.Errorf("%d lines were not confirmed, and it lacks %+v", lost, g)
	}
}

// TestSyslogOverTCPThatTakesNoMoreMayLackWhatWasSent: a write is given up, and the connection with
// it.
func TestSyslogOverTCPThatTakesNoMoreMayLackWhatWasSent(t *testing.T) {
	server, err := smallListener(t)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const its = time.Second
	l := open(t, memory.New(), func(c *Config) { c.Syslog, c.within = "tcp://"+server.Addr().String(), its })
	fill(t, l, 1)
	smallBuffer(t, l)
	sent := 1
	for ; len(l.Degraded()) == 0; sent++ {
		fill(t, l, 1) // nobody reads
	}
	if d := l.Degraded(); !errors.Is(d[0], os.ErrDeadlineExceeded) {
		t.Fatal(d)
	}
	if g := l.marks.gap("syslog/r1"); g.Lines != sent {
		t.Errorf("of %d lines none is confirmed, and it lacks %+v", sent, g)
	}
}

// TestTheEndOfASyslogThatSaidSomethingIsFound: its words stand before its end.
func TestTheEndOfASyslogThatSaidSomethingIsFound(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Write(bytes.Repeat([]byte("welcome\n"), 4000)); err != nil {
		t.Fatal(err)
	}
	other.Close()
	for deadline := time.Now().Add(patient); ended(conn) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the end is not found")
		}
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
	const its = time.Second // long enough that only a full socket is given up
	l := open(t, memory.New(), func(c *Config) { c.Syslog, c.within = "unix:"+path, its })
	sent := 0
	for ; len(l.Degraded()) == 0; sent++ {
		began := time.Now()
		fill(t, l, 1)
		if took := time.Since(began); took > 20*its {
			t.Fatalf("an append took %s", took)
		}
	}
	if d := l.Degraded(); !errors.Is(d[0], os.ErrDeadlineExceeded) && !errors.Is(d[0], context.DeadlineExceeded) {
		t.Fatalf("it does not stand still: %v", d)
	}
	l.cfg.within = patient
	if _, err := l.sinks[1].use(t.Context(), func(context.Context) ([]Head, error) {
		l.sinks[1].sink.(*syslogSink).within = patient
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patient)); err != nil {
		t.Fatal(err)
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
