package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/store/bolt"
)

// TestAnImportThatIsKilledHalfWayIsCompletedByTheSame: kill -9 of lockstepd in the midst of an
// import leaves each certificate stored or not, and the import run again passes over what is there.
func TestAnImportThatIsKilledHalfWayIsCompletedByTheSame(t *testing.T) {
	for name, args := range map[string]func(*stage) []string{
		"embedded": func(*stage) []string { return nil },
		"redis": func(s *stage) []string {
			redis, err := s.fleet.Redis(s.ctx, "store")
			s.ok(err)
			nats, err := s.fleet.NATS(s.ctx, "nats", 1)
			s.ok(err)
			return []string{"--store", "redis://" + redis.Addr, "--events", "nats://" + nats.Addrs()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, setup{later: true})
			if more := args(s); more != nil {
				s.plane.Args, s.plane.NATS = append(s.plane.Args, more...), "-"
			}
			s.start()
			const n = 20_000
			file := s.file("many.tar", s.archive(n))

			cmd := exec.CommandContext(s.ctx, filepath.Join(bin, "lockstep"),
				"--data-dir", s.plane.Data, "cert", "import", file)
			var words strings.Builder
			cmd.Stderr = &words
			s.ok(cmd.Start())
			s.eventually(func() error {
				var first certList
				if err := s.show(&first, "cert", "list", "--limit", "1", "n"); err != nil || len(first.Certs) == 0 {
					return errors.Join(errNotYet, err)
				}
				return nil
			})
			s.ok(s.plane.Kill())
			if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 ||
				!strings.Contains(words.String(), "it can be run again") {
				t.Fatalf("the import whose lockstepd was killed: %v, %s", err, words.String())
			}
			s.ok(s.plane.Restart())
			s.ok(s.plane.Ready(s.ctx))

			half := s.stored(n)
			if half == 0 || half == n {
				t.Errorf("%d of %d were stored when it was killed: that is not half way", half, n)
			}
			var done struct{ Stored, Same, Failed int }
			s.ok(s.show(&done, "cert", "import", file))
			if done.Stored != n || done.Same != half || done.Failed != 0 {
				t.Errorf("again: %+v, want %d stored, %d of them before", done, n, half)
			}
			if got := s.stored(n); got != n {
				t.Errorf("%d of %d are stored", got, n)
			}
			s.mustRun("audit", "verify")
			t.Logf("%d of %d were stored when it was killed", half, n)
		})
	}
}

// archive is one of so many certificates, with one key: to make keys takes long.
func (s *stage) archive(n int) []byte {
	s.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	p := s.issue("*.many.example")
	for i := range n {
		for name, text := range map[string][]byte{"tls.crt": p.Chain, "tls.key": p.Key} {
			s.ok(w.WriteHeader(&tar.Header{
				Name: fmt.Sprintf("n%d.many.example/%s", i, name), Size: int64(len(text)), Mode: 0o600,
			}))
			_, err := w.Write(text)
			s.ok(err)
		}
	}
	s.ok(w.Close())
	return b.Bytes()
}

type certList struct {
	Certs []struct{ Name, Problem string }
}

// stored counts the certificates of an archive that are there, each of which must be whole.
func (s *stage) stored(n int) int {
	s.t.Helper()
	var l certList
	s.ok(s.show(&l, "cert", "list", "--limit", fmt.Sprint(2*n), "n"))
	for _, c := range l.Certs {
		if c.Problem != "" {
			s.t.Errorf("%s: %s", c.Name, c.Problem)
		}
	}
	return len(l.Certs)
}

// TestOneBrokenCertificateAmongManyIsNamed: nobody else notices it; explain names it at once,
// status from when a node has asked for it.
func TestOneBrokenCertificateAmongManyIsNamed(t *testing.T) {
	s := newStage(t, setup{})
	s.file("many.tar", s.archive(10_000))
	s.mustRun("cert", "import", s.path("many.tar"))
	s.mustFail(4, "no certificate for nope.example", "explain", "nope.example")
	var e struct{ Found, Name string }
	if s.ok(s.show(&e, "explain", "N77.many.example.")); e.Found != "yes" || e.Name != "n77.many.example" {
		t.Errorf("%+v", e)
	}
	s.breakRecord("cert/n5000.many.example")
	s.mustFail(3, "could not be looked up", "explain", "n5000.many.example")
	if p := s.problems(); !strings.Contains(p, "n5000.many.example in the store") {
		t.Errorf("status does not name it: %s", p)
	}
	s.mustRun("explain", "n5001.many.example")
	p := s.issue("n5000.many.example")
	s.writePair("n5000.many.example", p)
	s.mustRun("explain", "n5000.many.example")
	if p := s.problems(); p != "" {
		t.Errorf("it was put again: %s", p)
	}
}

// problems are those of certificates that status names.
func (s *stage) problems() string {
	s.t.Helper()
	var st status
	s.ok(s.show(&st, "status"))
	return strings.Join(st.Certificates.Problems, "\n")
}

// breakRecord flips a bit of what is stored, while lockstepd is down: the embedded store has one
// process at a time.
func (s *stage) breakRecord(key string) {
	s.t.Helper()
	s.ok(s.plane.Kill())
	db, err := bolt.Open(filepath.Join(s.plane.Data, "store.db"))
	s.ok(err)
	val, rev, err := db.Get(s.ctx, key)
	s.ok(err)
	val[len(val)-1] ^= 1
	_, err = db.Swap(s.ctx, key, rev, val)
	s.ok(err)
	s.ok(db.Close())
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
}
