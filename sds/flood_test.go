package sds_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// edge is a node that asks as clients come, on the aggregated service, and lets go of what is
// removed.
type edge struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

	mu      sync.Mutex // and of sending
	have    map[string]bool
	waiting map[string]chan bool
	most    int // names held at once
}

func (f *fleet) edge(t *testing.T) *edge {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(f.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{t: t, stream: stream, have: map[string]bool{}, waiting: map[string]chan bool{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			d, err := stream.Recv()
			if err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			e.take(d)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

func (e *edge) take(d *discoveryv3.DeltaDiscoveryResponse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer := func(name string, ok bool) {
		if c := e.waiting[name]; c != nil {
			c <- ok
			delete(e.waiting, name)
		}
	}
	for _, r := range d.Resources {
		e.have[r.Name] = true
		answer(r.Name, true)
	}
	for _, n := range d.RemovedResources {
		delete(e.have, n)
		answer(n, false)
	}
	e.most = max(e.most, len(e.have))
	e.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: d.Nonce, ResourceNamesUnsubscribe: d.RemovedResources})
}

// send: the caller holds mu.
func (e *edge) send(q *discoveryv3.DeltaDiscoveryRequest) {
	q.TypeUrl, q.Node = sds.TypeURL, &corev3.Node{Id: "n1"}
	_ = e.stream.Send(q) // the receiver sees why it ended
}

// ask subscribes for clients who go away.
func (e *edge) ask(names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: names})
}

// serves is a handshake: it reports whether there is a certificate for it, and how long that took.
// Callers use names of their own.
func (e *edge) serves(name string) (bool, time.Duration) {
	began := time.Now()
	e.mu.Lock()
	if e.have[name] {
		e.mu.Unlock()
		return true, 0
	}
	c := make(chan bool, 1)
	e.waiting[name] = c
	e.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{name}})
	e.mu.Unlock()
	select {
	case ok := <-c:
		return ok, time.Since(began)
	case <-time.After(15 * time.Second):
		e.t.Errorf("%s: no answer", name)
		return false, time.Since(began)
	}
}

func (e *edge) held() int { e.mu.Lock(); defer e.mu.Unlock(); return len(e.have) }
func (e *edge) peak() int { e.mu.Lock(); defer e.mu.Unlock(); return e.most }

// used makes handshakes for a host until stop is called; each must succeed.
func (e *edge) used(name string) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if ok, _ := e.serves(name); !ok {
				e.t.Errorf("%s was refused", name)
			}
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-done })
}

// soon waits for what happens in other goroutines over real connections.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(strings.Lines(l.b.String()))
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestASprayWhileTheStoreIsDown: nobody says of a name that it is absent; what is known is served,
// memory and log stay small, and when the store is back hosts that exist are served before the
// rest is refused.
func TestASprayWhileTheStoreIsDown(t *testing.T) {
	var log lines
	f := newFleetOf(t, server.Config{OnDemand: sds.TypeURL}, &log)
	for _, n := range []keysource.Name{"known.example", "cold.example", "late.example"} {
		f.set(n, "v1")
	}
	e := f.edge(t)
	stop := e.used("known.example")
	defer stop()
	soon(t, "the known host is served", func() bool { return e.held() == 1 })
	idle := heap()
	fails := func(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.down = err }
	fails(errors.New("the store is away"))
	const sprayed = 20_000
	for i := range sprayed / 100 {
		some := make([]string, 100)
		for j := range some {
			some[j] = fmt.Sprintf("u%d.nowhere.example", i*100+j)
		}
		e.ask(some...)
	}
	e.ask("cold.example")
	soon(t, "all wait", func() bool { return f.table.Watched() == sprayed+2 })
	soon(t, "all have failed", func() bool { _, n := f.table.Failing(); return n == sprayed+1 })
	each := (heap() - idle) / sprayed
	t.Logf("%d bytes for each name that waits; %d lines in the log", each, len(log.all()))
	if each > 4<<10 {
		t.Errorf("%d bytes for each name", each)
	}
	if n := len(log.all()); n == 0 || n > 10 || !strings.Contains(log.all()[0], "the store is away") {
		t.Errorf("%d lines: %.1000q", n, log.all())
	}
	if n := e.held(); n != 1 {
		t.Errorf("%d are held", n)
	}
	fails(nil)
	if ok, took := e.serves("late.example"); !ok || took > 5*time.Second {
		t.Errorf("a host that nobody asked for before: %v after %s", ok, took)
	}
	soon(t, "the host that was asked for meanwhile is served", func() bool { return e.held() == 3 })
	soon(t, "the rest is refused", func() bool { return f.table.Watched() == 3 })
	stop()
}

// TestASprayOfHostsThatExist: more than a node may hold. Each is served, those that clients use
// too, and the node is brought down to what it may hold.
func TestASprayOfHostsThatExist(t *testing.T) {
	t.Parallel() // it mostly waits
	const most, sprayed = 700, 850
	f := newFleetOf(t, server.Config{OnDemand: sds.TypeURL, Hold: most}, &lines{})
	host := func(i int) string { return fmt.Sprintf("h%d.example", i) }
	for i := range sprayed {
		f.set(keysource.Name(host(i)), "v1")
	}
	e := f.edge(t)
	began := time.Now()
	for i := range 3 {
		defer e.used(host(i))()
	}
	for i := 3; i < sprayed; i++ {
		if ok, _ := e.serves(host(i)); !ok {
			t.Fatalf("%s was refused", host(i))
		}
	}
	if e.held() <= most {
		t.Fatalf("%d are held: nothing is too much", e.held())
	}
	soon(t, "it holds no more than it may", func() bool { return e.held() <= most })
	if n, took := f.xds.Stats().Evicted, time.Since(began); float64(n) > 50*took.Seconds()+1 || n < sprayed-most {
		t.Errorf("%d evicted in %s", n, took)
	}
}

// TestASprayUnderOneWildcard: what clients use is served throughout, hosts of their own
// certificates come in, others are refused at once, and after it there is room.
func TestASprayUnderOneWildcard(t *testing.T) {
	t.Parallel() // it mostly waits
	const most = 100
	f := newFleetOf(t, server.Config{OnDemand: sds.TypeURL, HoldGroup: most}, &lines{})
	f.set("*.wild.example", "W")
	f.set("own.wild.example", "O")
	e := f.edge(t)
	for i := range 3 {
		defer e.used(fmt.Sprintf("used-%d.wild.example", i))()
	}
	soon(t, "the used ones are served", func() bool { return e.held() == 3 })
	began := time.Now()
	var refused []time.Duration
	for i := 0; time.Since(began) < 4*time.Second; i++ {
		// twice as long as it takes to turn all of them over
		if ok, took := e.serves(fmt.Sprintf("u%d.wild.example", i)); !ok {
			refused = append(refused, took)
		}
	}
	if ok, _ := e.serves("own.wild.example"); !ok {
		t.Error("a host with a certificate of its own was refused")
	}
	slices.Sort(refused)
	s := f.xds.Stats()
	t.Logf("%d refused, p50 %s, p99 %s; %d evicted; %d held at most", len(refused), refused[len(refused)/2],
		refused[len(refused)*99/100], s.Evicted, e.peak())
	if n := e.peak(); n > 2*most {
		t.Errorf("%d were held", n)
	}
	if s.Evicted < most || float64(s.Evicted) > 50*time.Since(began).Seconds()+1 {
		t.Errorf("%d evicted", s.Evicted)
	}
	if len(refused) < 1000 {
		t.Errorf("%d refused: nobody sprayed", len(refused))
	}
	soon(t, "a new host is served", func() bool { ok, _ := e.serves("new.wild.example"); return ok })
}
