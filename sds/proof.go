package sds

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// An ACK says that Envoy built its TLS contexts. Where a context failed before, it is not enough: so a node that refused a
// ring, or took the remedy for a certificate, is proved once it has accepted the ring again. Every host of it that has
// session tickets must make one with the ring's first key.

// ProverConfig is what a [Prover] needs.
type ProverConfig struct {
	Streams func(context.Context, server.Query) []server.StreamView
	// Ring is what a scope sends now; nil: it has none.
	Ring func(scope string) *keysource.Ring
	// Refers is the type URL of listeners. Listener says of a version where it listens (0: not on a port), and which hosts have a
	// chain of their own in it, sorted. A client can make a node ask for any chain's certificate; only these have one.
	Refers   string
	Listener func(version string) (port uint16, hosts []keysource.Name)
	// Handshakes tries a node; see [Trial]. It ends with its context.
	Handshakes func(context.Context, Trial) Verdict
	Log        *slog.Logger
}

// Trial is a node that is to be tried.
type Trial struct {
	Addr  string // host:port
	Hosts []TrialHost
	Keys  []string // IDs of the keys with which it is to make tickets: of each of its rings the first
}

// TrialHost is a host of the node, and other nodes that serve it.
type TrialHost struct {
	Name   string
	Others []string // host:port
}

// Verdict is what handshakes with a node showed. If it is neither proved nor in doubt, nothing can be shown.
type Verdict struct {
	Proved, Doubt bool
	Words         string
	At            time.Time
}

// Evidence is the last verdict on a node that is connected.
type Evidence struct {
	Verdict
	Node   string
	Rings  map[string]string // versions for which it holds, by the ring's name
	Hosts  []string          // sorted
	stream uint64            // that of a ring
	tries  int               // that left it in doubt, one after the other
}

// Holds reports whether the evidence is about that version of a ring.
func (e Evidence) Holds(ring, version string) bool { return e.Rings[ring] == version }

const (
	settleFor   = 300 * time.Millisecond // after the ring was accepted: other things may be on their way
	provedOnce  = 4                      // nodes that are tried at once
	othersTried = 8                      // other nodes that are looked at to compare with
	othersNamed = 3                      // of these, for one host
	tryAgain    = 5 * time.Second        // after a verdict that left the node in doubt, doubling: what was seen may have been of a process that ends
	tryAtMost   = 5 * time.Minute
)

// Prover has nodes tried that were in doubt: each once after a cure. Its methods are safe for concurrent use.
type Prover struct {
	cfg  ProverConfig
	wake chan struct{} // capacity 1
	some atomic.Bool   // there is something in refused, cured or evidence

	mu       sync.Mutex
	refused  map[uint64]bool     // streams that refused a ring and have not accepted one since
	cured    map[string]uint64   // streams on which a node took a remedy, by node
	due      map[string]uint64   // streams of nodes that accepted a ring after that, by node
	evidence map[string]Evidence // by node
}

// NewProver starts nothing.
func NewProver(c ProverConfig) *Prover {
	return &Prover{
		cfg: c, wake: make(chan struct{}, 1), refused: map[uint64]bool{}, cured: map[string]uint64{}, due: map[string]uint64{}, evidence: map[string]Evidence{},
	}
}

// Observe takes what happened on a stream. It does not block.
func (p *Prover) Observe(e xds.Event) {
	_, ring := keysource.RingScope(e.Name)
	ring = ring && e.Node.Service == xds.SDS && e.Type == TypeURL
	n := e.Node
	switch {
	case e.Kind == xds.Closed:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.forget(n)
	case n.Agent == xds.EdgeAgent: // it forgets what it refuses
	case ring && e.Kind == xds.Refused:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refused[n.Stream] = true
		p.some.Store(true)
	case e.Kind == xds.Cured && e.Type == TypeURL:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cured[n.ID] = n.Stream
		p.some.Store(true)
	case ring && e.Kind == xds.Accepted:
		if !p.some.Load() { // nearly always: an ACK of a whole fleet must not wait for one mutex
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		_, cured := p.cured[n.ID]
		before, known := p.evidence[n.ID]
		if !p.refused[n.Stream] && !cured && !(known && before.Doubt && !before.Holds(e.Name, e.Version)) {
			return
		}
		delete(p.refused, n.Stream)
		delete(p.cured, n.ID)
		p.due[n.ID] = n.Stream
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// forget drops what is known by a stream that has ended. The caller holds mu.
func (p *Prover) forget(n xds.Node) {
	delete(p.refused, n.Stream)
	if p.cured[n.ID] == n.Stream {
		delete(p.cured, n.ID)
	}
	if p.due[n.ID] == n.Stream {
		delete(p.due, n.ID)
	}
	if p.evidence[n.ID].stream == n.Stream {
		delete(p.evidence, n.ID)
	}
	p.some.Store(len(p.refused)+len(p.cured)+len(p.evidence) > 0)
}

// Evidence is the last verdict on a node, while it is connected by the stream of its ring.
func (p *Prover) Evidence(node string) (Evidence, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.evidence[node]
	return e, ok
}

// All is the evidence that there is, by node.
func (p *Prover) All() []Evidence {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.evidence), func(a, b Evidence) int { return strings.Compare(a.Node, b.Node) })
}

// Run tries what is due until ctx ends.
func (p *Prover) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(provedOnce)
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-p.wake:
		}
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-time.After(settleFor):
		}
		p.mu.Lock()
		due := p.due
		p.due = map[string]uint64{}
		p.mu.Unlock()
		for _, node := range slices.Sorted(maps.Keys(due)) {
			g.Go(func() error {
				p.try(ctx, node, due[node])
				return nil
			})
		}
	}
}

// site is what a node's streams tell of where its clients come.
type site struct {
	addr  string
	why   string // why addr is empty
	hosts []string
	rings map[string]string // accepted versions, by the ring's name
	ready bool              // it uses no ring but those that are sent now
	keys  []string
}

// try has one node tried, and keeps the verdict.
func (p *Prover) try(ctx context.Context, node string, stream uint64) {
	at := p.siteOf(p.cfg.Streams(ctx, server.Query{Node: node}))
	if !at.ready { // a rotation is on its way: it is tried when it has accepted that
		p.again(stream)
		return
	}
	v := Verdict{Words: at.why, At: time.Now()}
	if at.why == "" {
		v = p.cfg.Handshakes(ctx, Trial{Addr: at.addr, Keys: at.keys, Hosts: p.compare(ctx, node, at)})
	}
	if ctx.Err() != nil {
		return
	}
	if now := p.siteOf(p.cfg.Streams(ctx, server.Query{Node: node})); !maps.Equal(now.rings, at.rings) || !now.ready {
		p.again(stream) // what was seen may be of either ring
		return
	}
	p.mu.Lock()
	e := Evidence{Verdict: v, Node: node, Rings: at.rings, Hosts: at.hosts, stream: stream}
	if v.Doubt {
		e.tries = p.evidence[node].tries + 1
		time.AfterFunc(min(tryAgain<<min(e.tries-1, 6), tryAtMost), func() { p.retry(node, stream) })
	}
	p.evidence[node] = e
	p.some.Store(true)
	p.mu.Unlock()
	switch {
	case v.Proved:
		p.cfg.Log.Info("a node that was in doubt has proved by handshakes that it uses its ring", "node", node, "words", v.Words)
	case v.Doubt:
		p.cfg.Log.Error("a node has accepted its ring, and handshakes show that it does not use it: restart this Envoy", "node", node, "words", v.Words)
	default:
		p.cfg.Log.Info("a node was in doubt, and handshakes cannot show whether it uses its ring", "node", node, "words", v.Words)
	}
}

// retry has a node tried again that was left in doubt, if nothing else has come meanwhile.
func (p *Prover) retry(node string, stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.evidence[node]; !e.Doubt || e.stream != stream || p.due[node] != 0 {
		return
	}
	p.due[node] = stream
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// again has the node tried when it accepts its next ring.
func (p *Prover) again(stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[stream] = true
	p.some.Store(true)
}

// siteOf sums up the streams of one node.
func (p *Prover) siteOf(views []server.StreamView) site {
	s := site{rings: map[string]string{}, ready: true}
	var remote string
	var port, listens uint16
	var asked, chains []keysource.Name
	for _, v := range views {
		remote = v.Node.Remote
		port = max(port, v.Node.Port)
		for _, n := range v.Names {
			if n.Type == p.cfg.Refers && n.Accepted != "" {
				listens, chains = p.cfg.Listener(n.Accepted)
			}
			if n.Type != TypeURL || n.Known != xds.Present {
				continue
			}
			if scope, ring := keysource.RingScope(n.Name); ring && v.Node.Service == xds.SDS {
				now := p.cfg.Ring(scope)
				if n.Accepted == "" || now == nil || n.Accepted != now.Version() {
					s.ready = false
					continue
				}
				s.rings[n.Name] = n.Accepted
				s.keys = append(s.keys, now.Keys[0].ID())
				continue
			}
			host, err := keysource.CertificateName(n.Name)
			switch {
			case err != nil || n.Sent == "":
			case v.Node.Service == xds.ADS && n.Name == keysource.ChainName(host):
				asked = append(asked, host)
			case v.Node.Service == xds.SDS || v.Node.Eager:
				s.hosts = append(s.hosts, string(host))
			}
		}
	}
	for _, host := range asked {
		if _, has := slices.BinarySearch(chains, host); has {
			s.hosts = append(s.hosts, string(host))
		}
	}
	if port == 0 {
		port = listens
	}
	slices.Sort(s.hosts)
	s.hosts = slices.Compact(s.hosts)
	s.ready = s.ready && len(s.rings) > 0
	s.addr, s.why = address(remote, port)
	return s
}

// address is the node's own address with the port of its listener. Nothing else that a node says of itself is followed.
func address(remote string, port uint16) (addr, why string) {
	ip, err := netip.ParseAddrPort(remote)
	switch {
	case err != nil:
		return "", "not provable: its address is not known, it came over a socket of this machine"
	case port == 0:
		return "", "not provable: the port of its listener is not known (bootstraps that lockstep writes say it in node.metadata)"
	}
	return net.JoinHostPort(ip.Addr().Unmap().String(), strconv.Itoa(int(port))), ""
}

// compare finds other nodes with which the hosts of a node can be compared: they accepted the same rings, and were not in doubt.
func (p *Prover) compare(ctx context.Context, node string, at site) []TrialHost {
	out := make([]TrialHost, len(at.hosts))
	for i, h := range at.hosts {
		out[i].Name = h
	}
	has := func(name string, st server.NameState) bool { return st.Accepted != "" && st.Accepted == at.rings[name] }
	seen := map[string]bool{node: true}
	for _, v := range p.cfg.Streams(ctx, server.Query{Names: slices.Sorted(maps.Keys(at.rings)), Keep: has}) {
		if e, known := p.Evidence(v.Node.ID); len(v.Names) == 0 || seen[v.Node.ID] || known && e.Doubt {
			continue
		}
		seen[v.Node.ID] = true
		other := p.siteOf(p.cfg.Streams(ctx, server.Query{Node: v.Node.ID}))
		for i := range out {
			if _, serves := slices.BinarySearch(other.hosts, out[i].Name); serves && other.addr != "" && other.addr != at.addr && len(out[i].Others) < othersNamed {
				out[i].Others = append(out[i].Others, other.addr)
			}
		}
		if len(seen) > othersTried {
			break
		}
	}
	return out
}
