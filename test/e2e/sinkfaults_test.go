package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// put changes a certificate, which the store takes whatever the other sinks do.
func (s *sinks) put() {
	s.t.Helper()
	s.puts++
	s.writePair("put.example", s.issue("put.example"))
}

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

// TestAnAuditFileThatCannotBeWritten: in each way in which a file can be away, changes go on, since
// the store takes their lines. Status names the file, the reason and how many lines it lacks, until
// it is back, without a further change. Then the file itself says how many, and no line looks
// changed. So it is with syslog.
func TestAnAuditFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
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
			"a full device", "is not a regular file",
			instead(func() error { return os.Symlink("/dev/full", s.file) }), back,
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
				s.complains("file", "this one lacks: 1")
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
			words = "this one lacks" // the directory is still in its place
		} else if i == 0 {
			s.complains("file", words) // before the next change
		}
		for try := 0; ; try++ { // a full disk may have room for a line or two
			s.put()
			if p := s.sinkProblem("file"); p != nil && hasAll(p.Text, []string{words, "this one lacks: "}) {
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
		if err != nil || bytes.Count(text, []byte("\n")) != 1 {
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
	s.complains("syslog", "this one lacks: 1")
	s.sys.start()
	s.well("syslog")

	// A start while both are away names both before any change. The check does, too.
	s.sys.stop()
	s.ok(instead(func() error { return os.Mkdir(s.file, 0o755) })())
	s.put() // it is counted over the restart
	s.complains("syslog", "this one lacks: 1")
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
	s.complains("file", "is not a regular file", "this one lacks: 1")
	s.complains("syslog", "no such file", "this one lacks: 1")
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
			return e.Kind == "audit-back" && e.Name == sink && strings.Contains(e.Text, "this one lacks: 1")
		})
	}
	if n := s.metric("lockstep_audit_refused_total"); n != 0 {
		t.Errorf("%v changes were refused", n)
	}
	if s.plane.LogTail(1) == "" {
		t.Error("there is no log")
	}
}

// nothingIsLostInSilence demands that each certificate that was put has its line in a copy of the
// log, or is counted by a line there that tells of missing ones. The copy verifies.
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
	if has+lacks != s.puts || lacks == 0 {
		s.t.Errorf("%d certificates were put; the %s has %d lines of them, and says that %d are missing",
			s.puts, sink, has, lacks)
	}
}

// TestAStoreThatTakesNoLine: it is full, stands still or is away. What is kept there is refused,
// asked for or scheduled. Nodes are served on, also with a certificate that has just changed. While
// the file and syslog are away too, nothing more is refused than that. All of it is said, and over
// once the sinks are back.
func TestAStoreThatTakesNoLine(t *testing.T) {
	t.Parallel()
	type fault struct {
		all        bool // all says that the other sinks are taken away, too.
		make, undo func()
	}
	for kind, open := range map[string]func(s *stage) (url string, f fault){
		"a full redis": func(s *stage) (string, fault) {
			redis, err := s.fleet.Redis(s.ctx, "store")
			s.ok(err)
			limit := func(bytes string) {
				_, err := redis.Do(s.ctx, "CONFIG", "SET", "maxmemory", bytes)
				s.ok(err)
			}
			return "redis://" + redis.Addr, fault{all: true, make: func() { limit("1") }, undo: func() { limit("0") }}
		},
		"a redis that stands still": func(s *stage) (string, fault) {
			redis, err := s.fleet.Redis(s.ctx, "store")
			s.ok(err)
			return "redis://" + redis.Addr, fault{
				make: func() { s.ok(redis.Pause()) }, undo: func() { s.ok(redis.Resume()) },
			}
		},
		"a full nats": func(s *stage) (string, fault) {
			server, err := s.fleet.NATS(s.ctx, "store", 1, fmt.Sprintf(
				"jetstream { store_dir: %q, sync_interval: always, max_file: 4M }", s.path("store-1")))
			s.ok(err)
			with := func(do func(js jetstream.JetStream)) {
				conn, err := nats.Connect(server.Servers[0].Client)
				s.ok(err)
				defer conn.Close()
				js, err := jetstream.New(conn)
				s.ok(err)
				do(js)
			}
			const ballast = "ballast"
			fill := func(js jetstream.JetStream) {
				_, err := js.CreateStream(s.ctx, jetstream.StreamConfig{Name: ballast, Subjects: []string{ballast}})
				s.ok(err)
				for size := 1 << 18; size > 64; {
					if _, err := js.Publish(s.ctx, ballast, make([]byte, size)); err != nil {
						size /= 2
					}
				}
			}
			return "nats://" + server.Addrs() + "?replicas=1", fault{
				all: true, make: func() { with(fill) },
				undo: func() { with(func(js jetstream.JetStream) { s.ok(js.DeleteStream(s.ctx, ballast)) }) },
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, setup{hosts: 1, later: true,
				scopes: "  default: {ticket_lifetime: 2s, period: 2s}\n"})
			url, f := open(s)
			folder := s.path("log")
			s.ok(os.Mkdir(folder, 0o755))
			sys := listenSyslog(t, s.path("syslog.sock"))
			s.plane.Args = append(s.plane.Args, "--store", url, "--refresh", "1s", "--kek", s.path("sealing.key"),
				"--audit-file", folder+"/audit.log", "--audit-syslog", "unix:"+sys.path)
			s.start()
			e := s.envoy("edge-1")
			s.awaitReady()
			s.awaitRotation()

			f.make()
			began := time.Now()
			for try := 0; s.lockstep("rotate", "--timeout", "3s").code == 0; try++ {
				// a limit may leave room for a record or two
				if try == 20 {
					t.Fatal("a rotation was not refused")
				}
			}
			s.eventually(func() error {
				var out struct{ Problems []problem }
				s.ok(s.show(&out, "status"))
				for _, p := range out.Problems {
					if p.Code == "store-down" || p.Code == "audit-sink-down" && p.Where == "store" {
						return nil
					}
				}
				return fmt.Errorf("status says nothing of the store: %+v", out)
			})
			if f.all {
				sys.stop()
				s.ok(os.Rename(folder, folder+".aside"))
				s.complains("file", "no such file")
				s.complains("syslog", "no such file")
				pair := s.issue("put.example")
				s.mustFail(5, "the audit log cannot be written, so nothing may be changed",
					"cert", "put", "put.example",
					"--cert", s.file("put.crt", pair.Chain), "--key", s.file("put.key", pair.Key))
				s.complains("file", "lines that no sink took: ")
				version := s.scope().Version
				fresh := s.renew(s.hosts[0])
				s.eventually(func() error { return s.shows(e, s.hosts[0], fresh) })
				s.mustRun("nodes")
				s.sleep(3*time.Second - time.Since(began)) // longer than period
				if now := s.scope().Version; now != version {
					t.Errorf("a scheduled rotation changed %s to %s", version, now)
				}
				sys.start()
				s.ok(os.Rename(folder+".aside", folder))
			}
			f.undo()

			s.awaitRotation()
			for _, sink := range []string{"store", "file", "syslog"} {
				s.well(sink)
			}
			if !f.all {
				return
			}
			const refused = "lines that no sink took: "
			s.findsEvent("the store was down", func(e event) bool {
				return e.Kind == "audit-down" && e.Name == "store"
			})
			s.findsEvent("the file is back", func(e event) bool {
				return e.Kind == "audit-back" && e.Name == "file" && strings.Contains(e.Text, refused)
			})
			log := s.mustRun("audit", "show", "--last", "1000")
			if !hasAll(log, []string{"audit-missed", refused}) {
				t.Errorf("the store says nothing of what it lacks:\n%s", log)
			}
			s.mustRun("audit", "verify")
			s.mustRun("audit", "verify", "--file", folder+"/audit.log")
			s.mustRun("audit", "verify", "--file", s.file("syslog.txt", []byte(sys.String())))
		})
	}
}

// awaitRotation waits until a scheduled rotation has ended.
func (s *stage) awaitRotation() {
	s.t.Helper()
	from := s.scope().Rotation
	s.eventuallyWithin(30*time.Second, func() error {
		sc, err := s.scopeOf("default")
		if err == nil && sc.Rotation <= from {
			err = fmt.Errorf("rotation %d, want a later one than %d", sc.Rotation, from)
		}
		return err
	})
}

// sleep is for what must not happen meanwhile.
func (s *stage) sleep(d time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
		s.t.Fatal(s.ctx.Err())
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
