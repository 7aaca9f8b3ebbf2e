package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// storeFault is a store that takes no line for a while.
type storeFault struct {
	all bool // all says that the other sinks are taken away, too.
	// open starts the store. It returns its URL, what makes it fail, and what ends that.
	open func(s *stage) (url string, fail, undo func())
}

var storeFaults = map[string]storeFault{
	"a full redis": {all: true, open: func(s *stage) (string, func(), func()) {
		redis, err := s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		limit := func(bytes string) {
			_, err := redis.Do(s.ctx, "CONFIG", "SET", "maxmemory", bytes)
			s.ok(err)
		}
		return "redis://" + redis.Addr, func() { limit("1") }, func() { limit("0") }
	}},
	"a redis that stands still": {open: func(s *stage) (string, func(), func()) {
		redis, err := s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		return "redis://" + redis.Addr, func() { s.ok(redis.Pause()) }, func() { s.ok(redis.Resume()) }
	}},
	"a full nats": {all: true, open: func(s *stage) (string, func(), func()) {
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
		return "nats://" + server.Addrs() + "?replicas=1", func() { with(fill) },
			func() { with(func(js jetstream.JetStream) { s.ok(js.DeleteStream(s.ctx, ballast)) }) }
	}},
}

// aStoreThatTakesNoLine: it is full, or stands still. What is kept there is refused, asked for or
// scheduled. Nodes are served on, also with a certificate that has just changed. While the file and
// syslog are away too, nothing more is refused than that. All of it is said, and over once the
// sinks are back.
func aStoreThatTakesNoLine(t *testing.T, f storeFault) {
	s := newStage(t, setup{hosts: 1, later: true, scopes: "  default: {ticket_lifetime: 2s, period: 2s}\n"})
	url, fail, undo := f.open(s)
	folder := s.path("log")
	s.ok(os.Mkdir(folder, 0o755))
	sys := listenSyslog(t, s.path("syslog.sock"))
	s.plane.Args = append(s.plane.Args, "--store", url, "--refresh", "1s", "--kek", s.path("sealing.key"),
		"--audit-file", folder+"/audit.log", "--audit-syslog", "unix:"+sys.path)
	s.start()
	var e *envoy
	if f.all {
		e = s.envoy("edge-1")
		s.awaitReady()
		s.awaitRotation()
	}

	fail()
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
	undo()

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
