package server

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testType = "type.googleapis.com/test.Thing"

// table is a Resources in memory.
type table struct {
	mu       sync.Mutex
	known    map[string]*xds.Resource // nil: absent; no key: not yet
	watchers map[string]map[*xds.Mailbox]int
	lookups  int
}

func newTable() *table {
	return &table{known: make(map[string]*xds.Resource), watchers: make(map[string]map[*xds.Mailbox]int)}
}

func (t *table) Lookup(_ xds.Node, name string) (*xds.Resource, xds.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lookups++
	r, ok := t.known[name]
	switch {
	case !ok:
		return nil, xds.NotYet
	case r == nil:
		return nil, xds.Absent
	}
	return r, xds.Present
}

func (t *table) Watch(_ xds.Node, name string, mailbox *xds.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watchers[name] == nil {
		t.watchers[name] = make(map[*xds.Mailbox]int)
	}
	t.watchers[name][mailbox]++
}

func (t *table) Unwatch(_ xds.Node, name string, mailbox *xds.Mailbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watchers[name][mailbox]--; t.watchers[name][mailbox] <= 0 {
		delete(t.watchers[name], mailbox)
	}
	if len(t.watchers[name]) == 0 {
		delete(t.watchers, name)
	}
}

func (t *table) watched() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.watchers)
}

func (t *table) put(r *xds.Resource, name string) {
	t.mu.Lock()
	t.known[name] = r
	mailboxes := make([]*xds.Mailbox, 0, len(t.watchers[name]))
	for mailbox := range t.watchers[name] {
		mailboxes = append(mailboxes, mailbox)
	}
	t.mu.Unlock()
	for _, mailbox := range mailboxes {
		mailbox.Put(name)
	}
}

func (t *table) set(name, version string) { t.put(thing(name, version, 10), name) }
func (t *table) absent(name string)       { t.put(nil, name) }
func (t *table) forget(name string) {
	t.mu.Lock()
	delete(t.known, name)
	t.mu.Unlock()
}

func thing(name, version string, size int) *xds.Resource {
	return &xds.Resource{Name: name, Version: version, Body: &anypb.Any{TypeUrl: testType, Value: make([]byte, size)}}
}

// rig is a machine with a table, a clock and what came out of it.
type rig struct {
	t   testing.TB
	m   *machine
	src *table
	now time.Time

	events    []string
	seen      []xds.Event
	nonces    []string // of the responses, in order
	responses []*response
	mailbox   *xds.Mailbox
}

func newRig(t testing.TB, sotw bool, l limits) *rig {
	r := &rig{t: t, src: newTable(), now: time.Unix(1_000_000, 0), mailbox: xds.NewMailbox()}
	env := &environment{types: map[string]xds.Resources{testType: r.src}, log: slog.New(slog.DiscardHandler),
		limits: l}
	env.observe = func(e xds.Event) {
		s := e.Kind.String() + " " + e.Name
		if e.Version != "" {
			s += "@" + e.Version
		}
		if e.Words != "" {
			s += " (" + e.Words + ")"
		}
		r.events = append(r.events, strings.TrimSpace(s))
	}
	r.m = &machine{env: env, mailbox: r.mailbox, sotw: sotw}
	return r
}

var testNode = &corev3.Node{Id: "n1"}

// sub, unsub, ack and nack are the parts of a delta request.
type req struct {
	sub, unsub []string
	have       map[string]string
	nonce      string
	nack       string
	typeURL    string
}

func (r *rig) delta(q req) string {
	r.t.Helper()
	out, err := r.m.delta(q.delta(), r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.took(out)
}

func (q req) delta() *discoveryv3.DeltaDiscoveryRequest {
	d := &discoveryv3.DeltaDiscoveryRequest{
		Node: testNode, TypeUrl: testType, ResourceNamesSubscribe: q.sub, ResourceNamesUnsubscribe: q.unsub,
		InitialResourceVersions: q.have, ResponseNonce: q.nonce,
	}
	if q.typeURL != "" {
		d.TypeUrl = q.typeURL
	}
	if q.nack != "" {
		d.ErrorDetail = &statuspb.Status{Message: q.nack}
	}
	return d
}

// list is a SotW request.
func (r *rig) list(names []string, version, nonce, nack string) string {
	r.t.Helper()
	d := &discoveryv3.DiscoveryRequest{Node: testNode, TypeUrl: testType, ResourceNames: names, VersionInfo: version,
		ResponseNonce: nonce}
	if nack != "" {
		d.ErrorDetail = &statuspb.Status{Message: nack}
	}
	out, err := r.m.stateOfTheWorld(d, r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.took(out)
}

// wake delivers what changed; pass lets time pass up to the machine's next deadline at the latest.
func (r *rig) wake() string { return r.took(r.m.changed(r.mailbox.Take(), r.now)) }

func (r *rig) pass(d time.Duration) string {
	r.now = r.now.Add(d)
	return r.took(r.m.timer(r.now))
}

// took decodes responses: "a@1 b@1 | -c" is a response with two resources and one with a removal.
func (r *rig) took(out []*response) string {
	var all []string
	for _, resp := range out {
		var parts []string
		if r.m.sotw {
			var d discoveryv3.DiscoveryResponse
			if err := proto.Unmarshal(resp.parts.Materialize(), &d); err != nil {
				r.t.Fatal(err)
			}
			if len(d.Resources) != 1 || d.TypeUrl != testType {
				r.t.Fatalf("SotW response %v", &d)
			}
			parts = append(parts, d.VersionInfo)
			r.nonces = append(r.nonces, d.Nonce)
		} else {
			var d discoveryv3.DeltaDiscoveryResponse
			if err := proto.Unmarshal(resp.parts.Materialize(), &d); err != nil {
				r.t.Fatal(err)
			}
			if r.m.env.types[d.TypeUrl] == nil || d.Nonce == "" {
				r.t.Fatalf("delta response %v", &d)
			}
			for _, x := range d.Resources {
				parts = append(parts, x.Name+"@"+x.Version)
			}
			for _, x := range d.RemovedResources {
				parts = append(parts, "-"+x)
			}
			r.nonces = append(r.nonces, d.Nonce)
		}
		r.responses = append(r.responses, resp)
		all = append(all, strings.Join(parts, " "))
	}
	return strings.Join(all, " | ")
}

func (r *rig) last() string { return r.nonces[len(r.nonces)-1] }

// told returns the events since the last call.
func (r *rig) told() string {
	s := strings.Join(r.events, ", ")
	r.events = nil
	return s
}

func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func nodeOf(id string) *corev3.Node { return &corev3.Node{Id: id} }
