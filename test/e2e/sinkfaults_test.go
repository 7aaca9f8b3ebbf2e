package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// sinks is a lockstepd with an audit file and a syslog, each of which a test takes away.
type sinks struct {
	*stage
	dir  string // of what lockstepd may write
	log  string // the directory of the audit file
	file string
	sys  *syslogd

	puts int
}

// newSinks sets up, and starts, a lockstepd that is not root if the test is.
func newSinks(t *testing.T) *sinks {
	t.Helper()
	s := &sinks{stage: newStage(t, setup{hosts: 1, later: true}), dir: t.TempDir()}
	s.plane.Certs = ""
	if os.Getuid() == 0 {
		s.dir = publicly(t)
		s.asOther()
	}
	s.log = filepath.Join(s.dir, "log")
	s.file = filepath.Join(s.log, "audit.log")
	s.ok(os.MkdirAll(s.log, 0o755))
	s.sys = listenSyslog(t, filepath.Join(s.dir, "syslog.sock"))
	s.own(s.dir, s.log)
	s.plane.Args = []string{"--audit-file", s.file, "--audit-syslog", "unix:" + s.sys.path}
	return s
}

// asOther has lockstepd run as another user than root, whom permissions bind.
func (s *sinks) asOther() {
	s.t.Helper()
	program, err := os.ReadFile(filepath.Join(bin, "lockstepd"))
	s.ok(err)
	s.ok(os.WriteFile(filepath.Join(s.dir, "program"), program, 0o755))
	s.ok(os.Mkdir(filepath.Join(s.dir, "bin"), 0o755))
	s.ok(os.WriteFile(filepath.Join(s.dir, "bin", "lockstepd"), fmt.Appendf(nil,
		"#!/bin/sh\nexec setpriv --reuid 61234 --regid 61234 --clear-groups %s/program \"$@\"\n", s.dir), 0o755))
	s.plane.Bin, s.plane.Data, s.plane.XDS = filepath.Join(s.dir, "bin"), filepath.Join(s.dir, "data"), "-"
}

// own gives files to the user of lockstepd.
func (s *sinks) own(paths ...string) {
	s.t.Helper()
	for _, p := range paths {
		if os.Getuid() == 0 {
			s.ok(os.Chown(p, 61234, 61234))
		}
	}
}

// put changes a certificate, which the store takes whatever the other sinks do. The disk of a busy
// machine may be too slow for the store, too: then it is tried again.
func (s *sinks) put() {
	s.t.Helper()
	s.puts++
	pair := s.issue("put.example")
	s.mustRunInTime("cert", "put", "put.example",
		"--cert", s.stage.file("put.crt", pair.Chain), "--key", s.stage.file("put.key", pair.Key))
}

// lacking is what status says of a sink that was down while another one took lines.
const lacking = "lines that other sinks took and this one lacks: "

// problem is what `status` says of a sink, or nil.
type problem struct{ Code, Severity, Where, Text, Next string }

func (s *stage) sinkProblem(sink string) (found *problem) {
	s.t.Helper()
	var out struct{ Problems []problem }
	s.ok(s.show(&out, "status"))
	for _, p := range out.Problems {
		if p.Code == "audit-sink-down" && p.Where == sink {
			found = &p
		}
	}
	return found
}

// complains waits until status names the sink, with words and what to do.
func (s *stage) complains(sink string, words ...string) {
	s.t.Helper()
	s.eventually(func() error {
		p := s.sinkProblem(sink)
		if p == nil || !hasAll(p.Text, words) || p.Next == "" {
			return fmt.Errorf("status says of the %s: %+v, want %q", sink, p, words)
		}
		return nil
	})
}

// well waits until status says nothing of a sink, while nobody changes anything.
func (s *stage) well(sink string) {
	s.t.Helper()
	s.eventually(func() error {
		if p := s.sinkProblem(sink); p != nil {
			return fmt.Errorf("status still says %+v", *p)
		}
		return nil
	})
}

// syslogd is a syslog on a unix socket.
type syslogd struct {
	t    *testing.T
	path string
	conn *net.UnixConn

	mu   sync.Mutex
	text bytes.Buffer
}

func listenSyslog(t *testing.T, path string) *syslogd {
	d := &syslogd{t: t, path: path}
	t.Cleanup(func() { d.conn.Close() })
	d.start()
	return d
}

func (d *syslogd) start() {
	d.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: d.path, Net: "unixgram"})
	if err == nil {
		err = os.Chmod(d.path, 0o666)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.conn = conn
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			d.mu.Lock()
			d.text.Write(b[:n])
			d.mu.Unlock()
		}
	}()
}

func (d *syslogd) stop() {
	d.conn.Close()
	os.Remove(d.path)
}

func (d *syslogd) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// away is a fault of the audit file. do makes it, and undo ends it. An error of do skips the case.
type away struct {
	name, words string
	do          func() error
	undo        func() error
}

// TestASinkOfTheAuditLogIsTakenAway: each of them from a lockstepd of its own, all at once.
func TestASinkOfTheAuditLogIsTakenAway(t *testing.T) {
	t.Parallel()
	const files = "the file and syslog"
	names := append(slices.Sorted(maps.Keys(storeFaults)), files)
	atOnce(t, names, func(t *testing.T, name string) {
		if name == files {
			aFileThatIsTakenAway(t)
			return
		}
		aStoreThatTakesNoLine(t, storeFaults[name])
	})
}

// aFileThatIsTakenAway: in each way in which a file can be away, changes go on, since
// the store takes their lines. Status names the file, the reason and how many lines it lacks, until
// it is back, without a further change. Then the file itself says how many, and no line looks
// changed. So it is with syslog.
func aFileThatIsTakenAway(t *testing.T) {
	s := newSinks(t)
	mounted := false
	if err := syscall.Mount("tmpfs", s.log, "tmpfs", 0, "size=256k,mode=0755"); err == nil {
		mounted = true
		t.Cleanup(func() { s.ok(syscall.Unmount(s.log, syscall.MNT_DETACH)) })
		s.own(s.log)
	}
	s.start()
	s.put()
	s.well("file")
	s.well("syslog")
	aside, ballast := s.file+".aside", filepath.Join(s.log, "ballast")
	// Something else stands in the place of the file.
	instead := func(put func() error) func() error {
		return func() error {
			if err := os.Rename(s.file, aside); err != nil {
				return err
			}
			return put()
		}
	}
	back := func() error {
		if err := os.Remove(s.file); err != nil {
			return err
		}
		return os.Rename(aside, s.file)
	}
	notMounted := errors.New("only with the right to mount")
	for i, c := range []away{
		{
			"replaced by a directory", "is not a regular file",
			instead(func() error { return os.Mkdir(s.file, 0o755) }), back,
		},
		{
			"a FIFO with no reader", "is not a regular file",
			instead(func() error { return syscall.Mkfifo(s.file, 0o666) }), back,
		},
		{
			"a directory whose permission was taken", "permission denied",
			func() error { return os.Chmod(s.log, 0) }, func() error { return os.Chmod(s.log, 0o755) },
		},
		{
			"a full disk", "no space left on device",
			func() error {
				if !mounted {
					return notMounted
				}
				f, err := os.Create(ballast)
				s.ok(err)
				defer f.Close()
				for size := 1 << 16; size > 0; {
					if _, err := f.Write(make([]byte, size)); err != nil {
						size /= 2
					}
				}
				return nil
			}, func() error { return os.Remove(ballast) },
		},
		{
			"a read-only remount", "read-only file system",
			func() error {
				if !mounted {
					return notMounted
				}
				s.ok(instead(func() error { return os.Mkdir(s.file, 0o755) })())
				s.complains("file", "is not a regular file")
				s.put() // it closes the file, so that the disk can be remounted
				s.complains("file", lacking)
				return syscall.Mount("", s.log, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
			},
			func() error {
				if err := syscall.Mount("", s.log, "", syscall.MS_REMOUNT, ""); err != nil {
					return err
				}
				return back()
			},
		},
	} {
		if err := c.do(); err != nil {
			t.Logf("%s was not tried: %v", c.name, err)
			continue
		}
		words := c.words
		if c.name == "a read-only remount" {
			words = lacking // the directory is still in its place
		} else if i == 0 {
			s.complains("file", words) // before the next change
		}
		for try := 0; ; try++ { // a full disk may have room for a line or two
			s.put()
			if p := s.sinkProblem("file"); p != nil && hasAll(p.Text, []string{words, lacking}) {
				break
			}
			if try == 50 {
				t.Fatalf("%s: status says %+v", c.name, s.sinkProblem("file"))
			}
		}
		s.mustFail(3, "the audit log cannot be written to the file", "status")
		s.mustRun("nodes")
		s.ok(c.undo())
		s.well("file")
		t.Logf("%s: named, and over again", c.name)
	}

	// What logrotate does is no fault.
	for name, move := range map[string]func() error{
		"moved":    func() error { return os.Rename(s.file, aside) },
		"deleted":  func() error { return os.Remove(s.file) },
		"truncate": func() error { return os.Truncate(s.file, 0) },
	} {
		var before []byte
		if name != "moved" {
			before, _ = os.ReadFile(s.file)
		}
		s.ok(move())
		s.put()
		s.well("file")
		text, err := os.ReadFile(s.file)
		if err != nil || bytes.Count(text, []byte("\n")) == 0 || len(text) > 4<<10 {
			t.Errorf("%s: the new file has %q %v", name, text, err)
		}
		if name == "moved" {
			before, err = os.ReadFile(aside)
			s.ok(err)
		}
		// verify gets the lines of all pieces
		s.ok(os.WriteFile(s.file, append(before, text...), 0o600))
		s.own(s.file)
	}

	// Syslog goes and comes back.
	s.sys.stop()
	s.complains("syslog", "no such file")
	s.put()
	s.complains("syslog", lacking)
	s.sys.start()
	s.well("syslog")

	// A start while both are away names both before any change. The check does, too.
	s.sys.stop()
	s.ok(instead(func() error { return os.Mkdir(s.file, 0o755) })())
	s.put() // it is counted over the restart
	s.complains("syslog", lacking)
	out, code := s.checks("lockstepd",
		append(s.plane.Args, "--data-dir", s.plane.Data, "--admin-listen", "127.0.0.1:0")...)
	if code != 3 || !hasAll(out, []string{
		"audit_file: the audit log cannot be written there: " + s.file + " is not a regular file",
		"audit_syslog: the audit log cannot be written there: ",
	}) {
		t.Errorf("--check: %d\n%s", code, out)
	}
	s.ok(s.plane.Stop(patience))
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	s.complains("file", "is not a regular file", lacking)
	s.complains("syslog", "no such file", lacking)
	s.sys.start()
	s.ok(back())
	s.well("file")
	s.well("syslog")
	s.mustRun("status")

	s.nothingIsLostInSilence("file", s.file)
	s.nothingIsLostInSilence("syslog", s.stage.file("syslog.txt", []byte(s.sys.String())))
	for _, sink := range []string{"file", "syslog"} {
		s.findsEvent(sink+" was down", func(e event) bool { return e.Kind == "audit-down" && e.Name == sink })
		s.findsEvent(sink+" is back", func(e event) bool {
			return e.Kind == "audit-back" && e.Name == sink && strings.Contains(e.Text, lacking)
		})
	}
}

// nothingIsLostInSilence demands that each certificate that was put has its line in a copy of the
// log, or is counted by a line there that tells of missing ones. It may be both, if the sink was
// too slow. The copy verifies.
func (s *sinks) nothingIsLostInSilence(sink, file string) {
	s.t.Helper()
	s.mustRun("audit", "verify", "--file", file)
	text, err := os.ReadFile(file)
	s.ok(err)
	has, lacks := 0, 0
	for line := range strings.Lines(string(text)) {
		var n int
		if _, rest, ok := strings.Cut(line, `"what":"audit-missed","times":`); ok {
			_, err := fmt.Sscanf(rest, "%d,", &n)
			s.ok(err)
			lacks += n
		}
		if strings.Contains(line, `"what":"cert-put"`) {
			has++
		}
	}
	if has+lacks < s.puts || lacks == 0 {
		s.t.Errorf("%d certificates were put; the %s has %d lines of them, and says that %d are missing",
			s.puts, sink, has, lacks)
	}
}

// TestNobodyReadsTheLog: the reader of standard output and error has gone, as a pipe to another
// program does. lockstepd goes on, and writes its audit log.
func TestNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1, later: true})
	r, w, err := os.Pipe()
	s.ok(err)
	s.plane.Data = s.path("unread")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "lockstepd"), "--data-dir", s.plane.Data,
		"--admin-listen", s.plane.Admin, "--xds-listen", s.plane.XDS)
	cmd.Stdout, cmd.Stderr = w, w
	s.ok(cmd.Start())
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.eventually(func() error {
		if got := s.lockstep("status"); got.code != 0 {
			return errors.New(got.err)
		}
		return nil
	})
	r.Close()
	s.mustRun("rotate", "--wait", "--timeout", "20s") // each of its steps has a line in the log
	s.mustRun("status")
	s.mustRun("audit", "verify")
	s.ok(cmd.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("lockstepd ended by %v", err)
	}
}
