package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

type kek struct {
	Primary, Phase string
	Old, Bad       []string
	Records        int
}

func (s *stage) kek() (k kek) {
	s.t.Helper()
	s.ok(s.show(&k, "kek", "status"))
	return k
}

// TestTheSealingKeyIsChangedUnderWrites: while ticket keys rotate and certificates are put, nothing
// fails and nothing is lost; in the end the new key alone opens all, also after a kill -9.
func TestTheSealingKeyIsChangedUnderWrites(t *testing.T) {
	s := newStage(t, setup{})
	n := s.scripted("node-1", accept)
	s.awaitPhase("steady", 1)
	pair := s.issue("stored.example")
	for i := range 20 {
		s.writePair(fmt.Sprintf("s%d.stored.example", i), s.issue(fmt.Sprintf("s%d.stored.example", i)))
	}
	s.writePair("stored.example", pair)
	first := s.kek()
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			case <-time.After(2 * time.Second): // more would fill the ring
			}
			if r := s.lockstep("rotate", "--wait", "--timeout", "20s"); r.code != 0 {
				stopped <- errors.New(r.err)
				return
			}
		}
	}()
	s.mustRun("kek", "rotate")
	mid := s.kek()
	if mid.Phase != "resealed" || mid.Primary == first.Primary ||
		!slices.Equal(mid.Old, []string{first.Primary}) || mid.Records < 20 || len(mid.Bad) > 0 {
		t.Errorf("%+v", mid)
	}
	s.ok(s.plane.Kill())
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	close(stop)
	<-stopped // the kill may have failed one
	s.awaitPhase("steady", 1)
	s.mustRun("kek", "retire")
	s.mustRun("kek", "retire") // and again: it says that nothing was changed
	if end := s.kek(); end.Phase != "steady" || end.Primary != mid.Primary || len(end.Old) > 0 {
		t.Errorf("%+v", end)
	}
	s.ok(s.plane.Stop(20 * time.Second))
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	for _, name := range []string{"s7.stored.example", "stored.example"} {
		s.mustRun("cert", "get", name)
	}
	s.awaitPhase("steady", 1)
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	if n.toldOfNone() > 0 {
		t.Error("the node was told that there is no ring")
	}
}

// TestAWrongSealingKeyServesNothingAndOverwritesNothing: the error names the source and the record;
// with the right key back, all is as it was.
func TestAWrongSealingKeyServesNothingAndOverwritesNothing(t *testing.T) {
	s := newStage(t, setup{})
	before := s.scope().Version
	s.ok(s.plane.Stop(20 * time.Second))
	key := filepath.Join(s.plane.Data, "sealing.key")
	s.ok(os.Rename(key, s.path("right.key")))
	s.mustRun("kek", "new", key)
	store, err := os.ReadFile(filepath.Join(s.plane.Data, "store.db"))
	s.ok(err)
	s.ok(s.plane.Restart())
	if err := s.plane.Ready(s.ctx); err == nil ||
		!strings.Contains(err.Error(), "seal/canary") || !strings.Contains(err.Error(), key) {
		t.Errorf("%v, want the record and the source of the key", err)
	}
	after, err := os.ReadFile(filepath.Join(s.plane.Data, "store.db"))
	s.ok(err)
	if string(store) != string(after) {
		t.Error("the store was written to")
	}
	s.ok(os.Rename(s.path("right.key"), key))
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	if now := s.scope().Version; now != before {
		t.Errorf("the ring is %s, was %s", now, before)
	}
}

// TestBurntKeysStayBurntThroughABackup: what a backup brings back, running and stopped, with a
// recipient and with a passphrase.
func TestBurntKeysStayBurntThroughABackup(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{})
	n := s.scripted("node-1", accept)
	s.awaitPhase("steady", 1)
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	s.writePair("stored.example", s.issue("stored.example"))
	id, err := age.GenerateX25519Identity()
	s.ok(err)
	identity := s.file("identity", []byte(id.String()+"\n"))
	const words = "the quick brown passphrase"
	phrase := s.file("phrase", []byte(words+"\n"))
	file, other := s.path("backup.age"), s.path("other.age")
	said := []said{
		s.lockstep("backup", "--to", file, "--recipient", id.Recipient().String()),
		s.lockstep("backup", "--to", other, "--passphrase-file", phrase),
		s.lockstep("backup", "--to", s.path("none.age"), "--recipient", id.String()), // by mistake
	}
	for i, want := range []int{0, 0, 2} {
		if r := said[i]; r.code != want || strings.Contains(r.out+r.err, words) ||
			strings.Contains(r.out+r.err, id.String()) {
			t.Fatalf("backup %d: exit code %d, want %d; said %s%s", i, r.code, want, r.out, r.err)
		}
	}
	b, err := os.ReadFile(file)
	s.ok(err)
	held := s.scope()
	for name, bad := range map[string][]byte{
		"cut.age": b[:len(b)-1], "half.age": b[:len(b)/2], "changed.age": append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1),
	} {
		s.mustFail(5, "not a whole backup", "restore", s.file(name, bad), "--identity", identity)
	}
	s.mustFail(5, "does not open", "restore", other, "--passphrase-file", s.file("wrong", []byte("wrong\n")))
	s.mustFail(5, "does not open", "restore", file, "--passphrase-file", phrase)

	s.mustRun("burn", "--yes", "--wait", "--timeout", "20s")
	s.mustRun("cert", "rm", "stored.example")
	burnt := s.awaitPhase("steady", 1)
	plan := s.mustRun("restore", file, "--identity", identity, "--plan")
	if !strings.Contains(plan, "nothing was changed") || !strings.Contains(plan, held.Keys[0].ID+": it was burnt") {
		t.Errorf("the plan says:\n%s", plan)
	}
	s.mustFail(4, "stored.example", "cert", "get", "stored.example")
	s.mustRun("restore", file, "--identity", identity)
	s.mustRun("cert", "get", "stored.example")
	check := func(when string) {
		t.Helper()
		now := s.awaitPhase("steady", 1)
		for _, k := range held.ids() {
			if slices.Contains(now.ids(), k) {
				t.Errorf("%s: the burnt key %s is back: %v", when, k, now.ids())
			}
		}
		if !slices.Contains(now.ids(), burnt.Keys[0].ID) {
			t.Errorf("%s: the fresh key is gone: %v", when, now.ids())
		}
	}
	check("running")
	s.ok(s.plane.Stop(20 * time.Second))
	s.mustRun("restore", file, "--identity", identity)
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	check("stopped")
	if n.toldOfNone() > 0 {
		t.Error("the node was told that there is no ring")
	}

	// A new place: the backup is all that there is. Its ring comes back above its generation.
	s.ok(s.plane.Stop(20 * time.Second))
	fresh := *s.plane
	fresh.Process, fresh.Data = nil, s.path("fresh")
	if r := s.lockstep("--data-dir", fresh.Data, "restore", other, "--passphrase-file", phrase); r.code != 0 {
		t.Fatalf("%s%s", r.out, r.err)
	}
	s.plane, err = s.fleet.Lockstepd("fresh", fresh)
	s.ok(err)
	s.ok(s.plane.Ready(s.ctx))
	s.mustRun("cert", "get", "stored.example")
	if now := s.scope(); !slices.Equal(now.ids(), held.ids()) {
		t.Errorf("the keys are %v, were %v", now.ids(), held.ids())
	}
}

// TestAStoreIsCopiedUnderRotation: the node stays in step, nothing is lost, and nothing changes
// between the copy and the last restart.
func TestAStoreIsCopiedUnderRotation(t *testing.T) {
	s := newStage(t, setup{})
	n := s.scripted("node-1", accept)
	s.awaitPhase("steady", 1)
	for i := range 30 {
		name := fmt.Sprintf("s%d.example", i)
		s.writePair(name, s.issue(name))
	}
	s.mustRun("cert", "rm", "s0.example")
	to := s.path("moved")
	stop, stopped := make(chan struct{}), make(chan said)
	go func() {
		for range 5 { // one requester may ask for no more before keys have drained
			select {
			case <-stop:
				stopped <- said{}
				return
			case <-time.After(50 * time.Millisecond):
			}
			if r := s.lockstep("rotate", "--wait", "--timeout", "20s"); r.code != 0 {
				stopped <- r
				return
			}
		}
		<-stop
		stopped <- said{}
	}()
	r := s.lockstep("store", "copy", s.plane.Data, to)
	close(stop)
	// One that had begun is waited for in vain: 6.
	if refused := <-stopped; refused.code != 0 && refused.code != 6 && !strings.Contains(refused.err, "frozen") {
		t.Errorf("a rotation failed otherwise: %+v", refused)
	}
	if r.code != 0 || !strings.Contains(r.out, "--data-dir "+to) || !strings.Contains(r.out, "store thaw") {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	frozen := s.scope()
	s.mustFail(5, "frozen", "burn", "--yes")
	s.mustFail(5, "frozen", "cert", "rm", "s1.example")
	if st := s.lockstep("status"); st.code != 3 || !strings.Contains(st.err, "frozen") {
		t.Errorf("status: exit code %d: %s", st.code, st.err)
	}
	late := s.scripted("node-2", accept) // serving goes on
	s.awaitPhase(frozen.Phase, 2)
	s.mustFail(5, "not empty", "store", "copy", s.plane.Data, to)

	s.ok(s.plane.Stop(20 * time.Second))
	moved := *s.plane
	moved.Process, moved.Data = nil, to
	var err error
	s.plane, err = s.fleet.Lockstepd("moved", moved)
	s.ok(err)
	s.ok(s.plane.Ready(s.ctx))
	if now := s.awaitPhase(frozen.Phase, 2); now.Version != frozen.Version || !slices.Equal(now.ids(), frozen.ids()) {
		t.Errorf("the ring is %s %v, was %s %v", now.Version, now.ids(), frozen.Version, frozen.ids())
	}
	s.mustFail(5, "frozen", "burn", "--yes")
	s.mustRun("store", "thaw")
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	s.awaitPhase("steady", 2)
	s.mustRun("cert", "get", "s1.example")
	s.mustFail(4, "s0.example", "cert", "get", "s0.example")
	if s.mustRun("audit", "verify"); n.toldOfNone()+late.toldOfNone() > 0 {
		t.Error("a node was told that there is no ring")
	}
}

// TestAStoreMovesBetweenKinds: from the embedded store to Redis, to NATS and back, under rotations.
// The node comes back to each with the ring that it holds.
func TestAStoreMovesBetweenKinds(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStage(t, setup{})
	redis, err := s.fleet.Redis(s.ctx, "redis")
	s.ok(err)
	nats, err := s.fleet.NATS(s.ctx, "nats", 1)
	s.ok(err)
	n := s.scripted("node-1", accept)
	s.awaitPhase("steady", 1)
	s.writePair("stored.example", s.issue("stored.example"))
	first, args := s.plane.Data, s.plane.Args
	from := first
	for i, to := range []string{"redis://" + redis.Addr, "nats://" + nats.Addrs() + "?replicas=1", s.path("last")} {
		s.mustRun("rotate", "--wait", "--timeout", "20s")
		out := s.mustRun("store", "copy", from, to)
		if !strings.Contains(out, to) || !strings.Contains(out, "store thaw") {
			t.Errorf("%s to %s: %s", from, to, out)
		}
		frozen := s.scope()
		s.mustFail(5, "frozen", "burn", "--yes")
		s.ok(s.plane.Stop(20 * time.Second))
		moved := *s.plane
		moved.Process, moved.Args = nil, append(slices.Clone(args), "--store", to)
		if i == 2 {
			moved.Data, moved.Args = to, append(slices.Clone(args), "--kek", filepath.Join(first, "sealing.key"))
		}
		s.plane, err = s.fleet.Lockstepd(fmt.Sprintf("moved-%d", i), moved)
		s.ok(err)
		s.ok(s.plane.Ready(s.ctx))
		if now := s.awaitPhase(frozen.Phase, 1); now.Version != frozen.Version ||
			!slices.Equal(now.ids(), frozen.ids()) {
			t.Errorf("in %s the ring is %s %v, was %s %v", to, now.Version, now.ids(), frozen.Version, frozen.ids())
		}
		s.mustFail(5, "frozen", "cert", "rm", "stored.example")
		s.mustRun("store", "thaw")
		s.mustRun("rotate", "--wait", "--timeout", "20s")
		s.mustRun("cert", "get", "stored.example")
		s.mustRun("audit", "verify")
		from = to
	}
	// A copy that is given up leaves the store as it was.
	ctx, cancel := context.WithCancel(s.ctx)
	copying := exec.CommandContext(ctx, filepath.Join(bin, "lockstep"), "--data-dir", s.plane.Data,
		"store", "copy", s.plane.Data, s.path("half"))
	s.ok(copying.Start())
	s.eventually(func() error {
		if st := s.lockstep("status"); !strings.Contains(st.err, "frozen") {
			return errNotYet
		}
		return nil
	})
	cancel()
	if err := copying.Wait(); err == nil {
		t.Error("it was not interrupted")
	}
	s.mustFail(5, "frozen", "burn", "--yes")
	s.mustRun("store", "thaw")
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	if n.toldOfNone() > 0 {
		t.Error("the node was told that there is no ring")
	}
}

// TestTheSealingKeyIsChangedByTwoReplicas: one command has both replicas change over, and drops the
// old key when both have said so.
func TestTheSealingKeyIsChangedByTwoReplicas(t *testing.T) {
	t.Parallel() // it mostly waits
	r := replicas(t, 2, func(s *stage) string {
		redis, err := s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		return "redis://" + redis.Addr
	})
	first := r.kek()
	began := time.Now()
	r.mustRun("kek", "rotate", "--retire")
	t.Logf("changed by two replicas in %s", time.Since(began).Round(time.Second/10))
	for _, p := range r.planes {
		r.plane = p
		r.eventually(func() error { // the other one reads the keyset within its refresh
			if k := r.kek(); k.Phase != "steady" || k.Primary == first.Primary || len(k.Old) > 0 {
				return fmt.Errorf("%+v, was %+v", k, first)
			}
			return nil
		})
		r.ok(p.Kill())
		r.ok(p.Restart())
		r.ok(p.Ready(r.ctx))
		r.mustRun("cert", "get", r.hosts[0])
		r.mustRun("rotate", "--wait", "--timeout", "20s")
	}
	r.mustRun("audit", "verify")
}
