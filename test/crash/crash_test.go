// Package crash kills lockstepd at named points of a rotation and of a burn, under traffic on real
// Envoys.
package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// points are all that package failpoint names, for the steps that a rotation, its drain and a burn
// go through.
func points() (all []string) {
	for _, step := range []string{"distributing", "promoting", "done", "retired", "burning", "burnt"} {
		for _, at := range []string{"before-swap", "after-swap", "after-wake"} {
			all = append(all, step+"/"+at)
		}
	}
	return append(all, "roster/before-swap", "roster/after-swap")
}

// seeds per point: make test plays 10; make soak sets more.
func seeds(point string) int {
	if n, err := strconv.Atoi(os.Getenv("CRASH_SEEDS")); err == nil {
		return n
	}
	if strings.HasPrefix(point, "burnt") {
		return 3 // each waits 10 s for the end of a burn
	}
	return 10
}

const lifetime = 4 * time.Second // of a ticket: short, so that keys retire while we wait

// stage is two Envoys under traffic, and a lockstepd that can be told where to die.
type stage struct {
	t       *testing.T
	fleet   *fleet.Fleet
	bin     string
	args    []string
	hit     string
	plane   *fleet.Lockstepd
	traffic *traffic.Traffic
	nodes   int
	life    int
	token   string
	host    string
}

func TestKillAtEachStepTurnsNobodyAway(t *testing.T) {
	s := setUp(t)
	for _, point := range points() {
		t.Run(strings.ReplaceAll(point, "/", " "), func(t *testing.T) {
			s.t = t
			slowest := time.Duration(0)
			for seed := range seeds(point) {
				slowest = max(slowest, s.killAt(point, rand.New(rand.NewPCG(uint64(seed), 7))))
			}
			t.Logf("%d kills; every node was served again after at most %s",
				seeds(point), slowest.Round(time.Millisecond))
		})
	}
	s.t = t
	s.auditIsSound()
}

// auditIsSound: no kill has left the audit log with a line that lacks, or that is not whole.
func (s *stage) auditIsSound() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	bin, err := fleet.Build(ctx, "lockstep")
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.fleet.Run(ctx, filepath.Join(bin, "lockstep"), "--data-dir", s.plane.Data, "audit", "verify")
	if err != nil || !strings.Contains(string(out), "none missing") {
		s.t.Errorf("%s %v", out, err)
	}
}

func setUp(t *testing.T) *stage {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := fleet.Root()
	check(err)
	plain, err := fleet.Build(ctx, "lockstep")
	check(err)
	s := &stage{t: t, fleet: fleet.ForTest(t), nodes: 2, host: "shop.example"}
	s.bin = filepath.Join(s.fleet.Dir(), "bin")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "failpoint", "-o", s.bin+"/", "./cmd/lockstepd")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.hit = filepath.Join(s.fleet.Dir(), "hit")
	ca, err := fleet.NewCA("crash test CA")
	check(err)
	pair, err := ca.Issue(fleet.Leaf{Names: []string{s.host}})
	check(err)
	certs := filepath.Join(s.fleet.Dir(), "certs")
	check(fleet.WriteHost(certs, s.host, pair))
	config := filepath.Join(s.fleet.Dir(), "lockstep.yaml")
	check(os.WriteFile(config,
		[]byte(fmt.Sprintf("scopes:\n  default:\n    ticket_lifetime: %s\n    period: 1h\n", lifetime)), 0o600))
	s.args = []string{"--config", config, "--refresh", "1s"}
	s.plane = &fleet.Lockstepd{Bin: s.bin, Certs: certs}
	s.start("")
	up, err := fleet.NewUpstream()
	check(err)
	t.Cleanup(func() { up.Close() })
	addrs := map[string]string{}
	for i := range s.nodes {
		name := fmt.Sprintf("edge-%d", i+1)
		listen, err := fleet.Addr()
		check(err)
		admin, err := fleet.Addr()
		check(err)
		yaml, err := s.fleet.Run(ctx, filepath.Join(plain, "lockstep"), "bootstrap",
			"envoy", "--node", name, "--xds", s.plane.XDS,
			"--admin", admin, "--listen", listen, "--upstream", up.Addr,
			"--host", s.host, "--ticket-lifetime", lifetime.String())
		check(err)
		p, err := s.fleet.Envoy(name, yaml, admin)
		check(err)
		check(p.Ready(ctx))
		addrs[name] = listen
	}
	s.traffic = traffic.New(traffic.Config{
		Nodes: addrs, Hosts: []string{s.host}, Roots: ca.Pool(), Lifetime: lifetime,
		Workers: 1, Hops: 40, Pause: 10 * time.Millisecond,
	})
	run, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.traffic.Run(run) }()
	t.Cleanup(func() { stop(); <-done })
	return s
}

// start runs a lockstepd that dies at point ("" for one that does not), on the same data and
// addresses as the one before.
func (s *stage) start(point string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.life++
	o := *s.plane
	o.Process, o.Args = nil, s.args
	if o.Data == "" {
		o.Data = filepath.Join(s.fleet.Dir(), "data")
	}
	o.Env = []string{"LOCKSTEP_FAILPOINT=" + point, "LOCKSTEP_FAILPOINT_HIT=" + s.hit}
	plane, err := s.fleet.Lockstepd(fmt.Sprintf("lockstepd-%d", s.life), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.plane = plane
	if err := plane.Ready(ctx); err != nil {
		select {
		case <-plane.Done(): // it may die before it is ready: at roster/…
		default:
			s.t.Fatal(err)
		}
	}
	if s.token == "" {
		b, err := os.ReadFile(filepath.Join(o.Data, "admin.token"))
		if err != nil {
			s.t.Fatal(err)
		}
		s.token = strings.TrimSpace(string(b))
	}
}

// killAt brings lockstepd to its death at point, starts it again, and returns how long the fleet
// was without it after that start.
func (s *stage) killAt(point string, rnd *rand.Rand) time.Duration {
	t := s.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	os.Remove(s.hit)
	before, _ := s.traffic.Counts()
	if err := s.plane.Kill(); err != nil {
		t.Fatal(err)
	}
	s.start(point)
	// the Envoys are back already, or not yet
	time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
	command := "rotate"
	if strings.HasPrefix(point, "burn") {
		command = "burn"
	}
	if err := s.post(ctx, command); err != nil && !gone(err) {
		t.Fatalf("%s: %v", command, err)
	}
	select {
	case <-s.plane.Done():
	case <-ctx.Done():
		t.Fatalf("%s was never hit", point)
	}
	if b, err := os.ReadFile(s.hit); err != nil || string(b) != point {
		t.Fatalf("lockstepd died at %q, not at %s: %v", b, point, err)
	}
	began := time.Now()
	s.start("")
	err := fleet.Until(ctx, func() error { return s.inStep(ctx) })
	took := time.Since(began)
	if err != nil {
		t.Fatalf("after the restart: %v", err)
	}
	if took > 3*time.Second {
		t.Errorf("%s: the fleet was served again after %s, more than 3s", point, took)
	}
	if command == "burn" {
		// the last tickets from before it are offered, and refused
		time.Sleep(300 * time.Millisecond)
	}
	s.check(before, command == "burn")
	return took
}

// check is P1: no live ticket was refused, no handshake failed. A burn refuses the tickets from
// before it.
func (s *stage) check(before map[uint16]traffic.Count, burnt bool) {
	s.t.Helper()
	counts, words := s.traffic.Counts()
	for v, c := range counts {
		if c.Failed > before[v].Failed || !burnt && c.Refused > before[v].Refused {
			s.t.Errorf("%s: %d live tickets refused, %d handshakes failed: %v",
				traffic.Kinds[v], c.Refused-before[v].Refused, c.Failed-before[v].Failed, words)
		}
	}
}

// inStep: every node accepted the ring, and nothing is under way that waits for a node.
func (s *stage) inStep(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.plane.Admin+"/v1/status", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var st struct {
		Scopes []struct {
			Phase    string
			Underway bool
			Nodes    struct{ Accepted, Live int }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		return err
	}
	// A burn that every node has accepted goes on until the handshakes that were under way then
	// have ended.
	if sc := st.Scopes[0]; sc.Nodes.Accepted != s.nodes || sc.Underway && sc.Phase != "burning" {
		return fmt.Errorf("%+v", sc)
	}
	return nil
}

// post asks for a rotation or a burn. One requester may ask for few rotations while their keys
// drain. So it asks again after that, as an operator would.
func (s *stage) post(ctx context.Context, command string) error {
	for {
		err := s.postOnce(ctx, command)
		if !errors.Is(err, errConflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *stage) postOnce(ctx context.Context, command string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://"+s.plane.Admin+"/v1/scopes/default/"+command, bytes.NewReader([]byte("{}")))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		return errConflict
	}
	return errors.New(resp.Status)
}

var errConflict = errors.New("409: there is no room for it yet")

// errGone: lockstepd died while it answered, or before.
var errGone = errors.New("no answer")

func gone(err error) bool { return errors.Is(err, errGone) }

// A lockstepd that hangs is noticed by its nodes, which serve on, and are back when it goes on.
func TestStoppedForHalfAMinuteTurnsNobodyAway(t *testing.T) {
	s := setUp(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before, _ := s.traffic.Counts()
	if err := s.post(ctx, "rotate"); err != nil {
		t.Fatal(err)
	}
	if err := s.plane.Pause(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Second)
	if err := s.plane.Resume(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := fleet.Until(ctx, func() error { return s.inStep(ctx) }); err != nil {
		t.Fatal(err)
	}
	t.Logf("every node was back %s after it went on", time.Since(began).Round(time.Millisecond))
	if err := s.post(ctx, "rotate"); err != nil {
		t.Fatal(err)
	}
	if err := fleet.Until(ctx, func() error { return s.inStep(ctx) }); err != nil {
		t.Fatal(err)
	}
	s.check(before, false)
}
