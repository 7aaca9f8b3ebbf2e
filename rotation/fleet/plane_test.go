package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// faulty is a store whose every operation may fail before it is done, or after.
type faulty struct {
	store.Store
	mu     sync.Mutex
	before func(ctx context.Context, op, key string) error
	after  func(op, key string) error
	ops    []string
}

func newFaulty() *faulty { return &faulty{Store: memory.New()} }

// another is another replica's own way to the same store.
func (s *faulty) another() *faulty { return &faulty{Store: s.Store} }

func (s *faulty) set(before func(ctx context.Context, op, key string) error, after func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func (s *faulty) begin(ctx context.Context, op, key string) error {
	s.mu.Lock()
	s.ops = append(s.ops, op+" "+key)
	before := s.before
	s.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, op, key)
}

func (s *faulty) end(op, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.after == nil {
		return nil
	}
	return s.after(op, key)
}

// count is how many operations began so.
func (s *faulty) count(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.ops {
		if strings.HasPrefix(op, prefix) {
			n++
		}
	}
	return n
}

func (s *faulty) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if err := s.begin(ctx, "get", key); err != nil {
		return nil, 0, err
	}
	return s.Store.Get(ctx, key)
}

func (s *faulty) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if err := s.begin(ctx, "swap", key); err != nil {
		return 0, err
	}
	rev, err := s.Store.Swap(ctx, key, old, val)
	if err == nil {
		err = s.end("swap", key)
	}
	return rev, err
}

func (s *faulty) Now(ctx context.Context) (time.Time, error) {
	if err := s.begin(ctx, "now", ""); err != nil {
		return time.Time{}, err
	}
	return s.Store.Now(ctx)
}

var errDown = errors.New("the disk is on fire")

func down(context.Context, string, string) error { return errDown }

// plane is a running coordinator with the streams of its nodes. It lives in a synctest bubble.
type plane struct {
	*Coordinator
	t       *testing.T
	store   *faulty
	replica string
	cancel  context.CancelFunc
	done    chan error
	ended   bool // ended says that it does not run any more.

	mu    sync.Mutex
	nodes map[uint64]*client
	lines []rotation.Line
	woken func(streams []uint64)
	tells *plane // gets an event for each line
}

// client is a node on a stream: it takes every ring that it is woken for, and accepts it.
type client struct {
	stream  uint64
	name    string
	wake    chan struct{}
	stop    chan struct{}
	ended   chan struct{}
	refuses atomic.Bool
	mute    atomic.Bool

	mu  sync.Mutex
	had []uint64 // generations that it was sent, in order
}

var streams atomic.Uint64

func testPolicy() rotation.Policy {
	p := rotation.DefaultPolicy()
	p.Period = 20 * time.Hour
	p.MaxKeyAge = 24 * time.Hour
	p.TicketLifetime = time.Hour
	return p
}

// lease sets the lease of all planes.
func lease(d time.Duration, planes ...*plane) {
	for _, p := range planes {
		p.scopes["default"].policy.NodeLease = d
	}
}

// start runs a coordinator until the test ends, and waits until it knows the ring. Each change is
// made to its configuration before.
func start(t *testing.T, s *faulty, replica string, changes ...func(*Config)) *plane {
	t.Helper()
	p := prepare(t, s, replica, changes...)
	p.run()
	<-p.Ready()
	synctest.Wait()
	return p
}

// pair starts two replicas on a store.
func pair(t *testing.T) (s *faulty, r1, r2 *plane) {
	t.Helper()
	s = newFaulty()
	return s, start(t, s, "r1"), start(t, s, "r2")
}

// alone is the configuration of a replica that shares its store with no other.
func alone(c *Config) { c.Shared = false }

// remembers is the configuration of a replica that knows what it sent before.
func remembers(m HighestSent) func(*Config) { return func(c *Config) { c.HighestSent = m } }

// on is the configuration of a replica that sees its store in another way.
func on(s store.Store) func(*Config) { return func(c *Config) { c.Store = s } }

// clockOff is the configuration of a replica whose machine's clock is ahead.
func clockOff(by time.Duration) func(*Config) {
	return func(c *Config) { c.Clock = func() time.Time { return time.Now().Add(by) } }
}

// calls is the configuration of a replica that tells the others where it is.
func calls(replica string, alone bool) func(*Config) {
	return func(c *Config) { c.Self = Peer{Admin: "http://" + replica, Alone: alone} }
}

// prepare makes a coordinator that does not run yet.
func prepare(t *testing.T, s *faulty, replica string, changes ...func(*Config)) *plane {
	p := &plane{t: t, store: s, replica: replica, nodes: map[uint64]*client{}, done: make(chan error, 1)}
	c := Config{
		Store: s, Replica: replica,
		Scopes: map[string]rotation.Policy{"default": testPolicy()}, Refresh: 5 * time.Second, Shared: true,
		Wake: p.wakeUp, Log: slog.New(slog.DiscardHandler),
		Announce: func(_ string, l rotation.Line, _ string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lines = append(p.lines, l)
			if p.tells != nil {
				p.tells.Poke("default")
			}
		},
	}
	for _, change := range changes {
		change(&c)
	}
	p.Coordinator = New(c)
	return p
}

// run runs it until the test ends, unless it ends before.
func (p *plane) run() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.done <- p.Run(ctx) }()
	p.t.Cleanup(func() {
		if !p.ended {
			p.stop()
		}
	})
}

// end waits until it ends, and returns why.
func (p *plane) end() error {
	p.t.Helper()
	err := <-p.done
	p.ended = true
	p.cancel()
	return err
}

// stop ends it as a signal does: the streams end first.
func (p *plane) stop() {
	p.hangUp()
	p.cancel()
	if err := p.end(); err != nil {
		p.t.Errorf("replica %s: %v", p.replica, err)
	}
}

// kill ends it as kill -9 does: nothing more reaches the store.
func (p *plane) kill() {
	p.mu.Lock()
	nodes := p.nodes
	p.nodes = map[uint64]*client{}
	p.mu.Unlock()
	for _, c := range nodes {
		close(c.stop)
		<-c.ended
	}
	p.store.set(down, nil)
	p.cancel()
	_ = p.end()
	p.store.set(nil, nil)
}

func (p *plane) hangUp() {
	p.mu.Lock()
	nodes := p.nodes
	p.nodes = map[uint64]*client{}
	p.mu.Unlock()
	for _, c := range nodes {
		close(c.stop)
		<-c.ended
		p.Closed(c.stream)
	}
}

func (p *plane) wakeUp(_ string, streams []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.woken != nil {
		p.woken(streams)
	}
	for _, c := range p.nodes {
		if streams == nil || slices.Contains(streams, c.stream) {
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
	}
}

// connect opens a stream of a node that says it holds a version.
func (p *plane) connect(name, held string) *client { return p.open("", name, held) }

// connectIn opens a stream of a node that is counted with a group.
func (p *plane) connectIn(group, name string) *client { return p.open(group, name, "") }

func (p *plane) open(group, name, held string) *client {
	c := &client{
		stream: streams.Add(1), name: name, wake: make(chan struct{}, 1),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	p.mu.Lock()
	p.nodes[c.stream] = c
	p.mu.Unlock()
	p.Join("default", Asked{Stream: c.stream, Node: name, Held: held, Believed: true, Group: group})
	go c.serve(p, held)
	return c
}

func (c *client) serve(p *plane, holds string) {
	defer close(c.ended)
	for {
		if ring, _ := p.Ring(c.stream, "default"); ring != nil && ring.Version() != holds {
			if v := ring.Version(); c.mute.Load() {
				// it has the ring and says nothing
			} else if c.refuses.Load() {
				p.Refused(c.stream, "default", v, "no")
			} else {
				holds = v
				c.mu.Lock()
				c.had = append(c.had, ring.Generation)
				c.mu.Unlock()
				p.Accepted(c.stream, "default", v)
			}
		}
		select {
		case <-c.wake:
		case <-c.stop:
			return
		}
	}
}

func (p *plane) disconnect(c *client) {
	p.mu.Lock()
	delete(p.nodes, c.stream)
	p.mu.Unlock()
	close(c.stop)
	<-c.ended
	p.Closed(c.stream)
}

func (c *client) got() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.had)
}

func (p *plane) status() Status {
	p.t.Helper()
	st, err := p.Status("default")
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

// phase waits for d and compares.
func (p *plane) phase(d time.Duration, want rotation.Phase, generation uint64) {
	p.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if st := p.status(); st.Phase != want || st.Generation != generation {
		p.t.Fatalf("replica %s: %s g%d, want %s g%d; blocked by %q; err %v",
			p.replica, st.Phase, st.Generation, want, generation,
			st.BlockedBy, st.Err)
	}
}

func (p *plane) rotate() uint64 {
	p.t.Helper()
	n, err := p.Rotate(p.t.Context(), "default", rotation.Request{By: "me", Why: "test"})
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *plane) announced() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, l := range p.lines {
		out = append(out, string(l.What))
	}
	return strings.Join(out, " ")
}

// rollout is what stands in the store.
func (s *faulty) rollout(t *testing.T) (rotation.Rollout, store.Rev) {
	t.Helper()
	b, rev, err := s.Store.Get(t.Context(), "ring/default")
	if err != nil {
		t.Fatal(err)
	}
	r, err := rotation.Decode("default", b)
	if err != nil {
		t.Fatal(err)
	}
	return r, rev
}

func (s *faulty) overwrite(t *testing.T, r rotation.Rollout) {
	t.Helper()
	_, rev := s.rollout(t)
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Store.Swap(t.Context(), "ring/default", rev, b); err != nil {
		t.Fatal(err)
	}
}

func members(st Status) string {
	var out []string
	for _, m := range st.Members {
		s := fmt.Sprintf("%s=%d", m.Name(), m.Floor)
		if !m.Connected {
			s += "~"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func ringOf(generation uint64) string {
	return keysource.Ring{Generation: generation, Keys: []keysource.TicketKey{testKey(int(generation))}}.Version()
}
