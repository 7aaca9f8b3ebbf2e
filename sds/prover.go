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

// An ACK says that Envoy built its TLS contexts. If a context failed before, that is not enough.
// So a node that refused a ring, or took a remedy, is proved by handshakes. That happens once it
// has accepted the ring again. Each of its hosts that has session tickets must make one with the
// ring's first key.

// ProverConfig is what a [Prover] needs.
type ProverConfig struct {
	Streams func(context.Context, server.Query) []server.StreamView
	// Ring returns what a scope sends now, or nil if it has no ring.
	Ring func(scope string) *keysource.Ring
	// Refers is the type URL of listeners. Listener returns the port on which a version of one
	// listens (0 if none). It also returns, sorted, the hosts that have a chain of their own in
	// it. A client can make a node ask for the certificate of any chain, but only these hosts have
	// one.
	Refers   string
	Listener func(version string) (port uint16, hosts []keysource.Name)
	// Handshakes makes handshakes with a node; see [ProofTarget]. It ends with its context.
	Handshakes func(context.Context, ProofTarget) ProofResult
	Log        *slog.Logger
}

// ProofTarget is a node that is to be proved.
type ProofTarget struct {
	Addr  string // host:port
	Hosts []ProofHost
	// IDs of the keys with which it must make tickets: the first key of each of its rings
	Keys []string
}

// ProofHost is a host of the node, and other nodes that serve it.
type ProofHost struct {
	Name   string
	Others []string // host:port
}

// ProofResult is what handshakes with a node showed. If it is neither Proved nor Doubt, they
// cannot show anything.
type ProofResult struct {
	Proved, Doubt bool
	Words         string
	At            time.Time
}

// Evidence is the last result for a node that is connected.
type Evidence struct {
	ProofResult
	Node   string
	Rings  map[string]string // versions for which it holds, by the name of the ring
	Hosts  []string          // sorted
	stream uint64            // the stream of a ring
	tries  int               // how many handshakes in a row did not prove it
}

// Holds reports whether the evidence is about that version of a ring.
func (e Evidence) Holds(ring, version string) bool { return e.Rings[ring] == version }

const (
	// quietFor is the wait after a ring was accepted, since other resources may be under way.
	quietFor       = 300 * time.Millisecond
	provesAtOnce   = 4 // nodes that are proved at the same time
	othersExamined = 8 // other nodes that are examined as nodes to compare with
	othersPerHost  = 3 // the most of these for one host
	// proveRetry is the wait after handshakes that did not prove the node. It doubles up to
	// proveRetryMost. They may have reached a process that was ending, or none.
	proveRetry     = 5 * time.Second
	proveRetryMost = 5 * time.Minute
)

// Prover proves by handshakes the nodes that were in doubt, each once after a cure. Its methods
// are safe for concurrent use.
type Prover struct {
	cfg    ProverConfig
	wake   chan struct{} // capacity 1
	active atomic.Bool   // reports whether refused, cured or evidence has something

	mu sync.Mutex
	// refused holds the streams that refused a ring, or could not be proved by it, and have not
	// accepted one since.
	refused map[uint64]bool
	cured   map[string]uint64 // node → the stream on which it took a remedy
	due     map[string]uint64 // node → the stream on which it accepted a ring after that
	// proving counts the proofs under way of a stream's node. The stream is not in it once it has
	// ended: what such a proof showed is of a node that has gone.
	proving  map[uint64]int
	evidence map[string]Evidence // by node
}

// NewProver returns a prover. It starts nothing.
func NewProver(c ProverConfig) *Prover {
	return &Prover{
		cfg: c, wake: make(chan struct{}, 1), refused: map[uint64]bool{}, cured: map[string]uint64{},
		due: map[string]uint64{}, proving: map[uint64]int{}, evidence: map[string]Evidence{},
	}
}

// Observe takes an event of a stream. It does not block.
func (p *Prover) Observe(e xds.Event) {
	_, ring := keysource.RingScope(e.Name)
	ring = ring && e.Node.Service == xds.SDS && e.Type == TypeURL
	n := e.Node
	switch {
	case e.Kind == xds.Closed:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.forget(n)
	case n.Agent == xds.EdgeAgent: // the edge forgets what it refuses
	case ring && e.Kind == xds.Refused:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refused[n.Stream] = true
		p.active.Store(true)
	case e.Kind == xds.Cured && e.Type == TypeURL:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cured[n.ID] = n.Stream
		p.active.Store(true)
	case ring && e.Kind == xds.Accepted:
		// This is nearly always so. The ACKs of a whole fleet must not wait for one mutex.
		if !p.active.Load() {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		_, cured := p.cured[n.ID]
		before, known := p.evidence[n.ID]
		if !p.refused[n.Stream] && !cured && !(known && !before.Proved && !before.Holds(e.Name, e.Version)) {
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

// forget forgets what is known by a stream that has ended. The caller holds mu.
func (p *Prover) forget(n xds.Node) {
	delete(p.refused, n.Stream)
	delete(p.proving, n.Stream)
	if p.cured[n.ID] == n.Stream {
		delete(p.cured, n.ID)
	}
	if p.due[n.ID] == n.Stream {
		delete(p.due, n.ID)
	}
	if p.evidence[n.ID].stream == n.Stream {
		delete(p.evidence, n.ID)
	}
	p.active.Store(len(p.refused)+len(p.cured)+len(p.evidence) > 0)
}

// Evidence returns the last result for a node, while the stream of its ring is connected.
func (p *Prover) Evidence(node string) (Evidence, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.evidence[node]
	return e, ok
}

// All returns all evidence, by node.
func (p *Prover) All() []Evidence {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.evidence),
		func(a, b Evidence) int { return strings.Compare(a.Node, b.Node) })
}

// Run proves what is due, until ctx ends.
func (p *Prover) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(provesAtOnce)
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-p.wake:
		}
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-time.After(quietFor):
		}
		p.mu.Lock()
		due := p.due
		p.due = map[string]uint64{}
		for _, stream := range due {
			p.proving[stream]++
		}
		p.mu.Unlock()
		for _, node := range slices.Sorted(maps.Keys(due)) {
			g.Go(func() error {
				p.prove(ctx, node, due[node])
				return nil
			})
		}
	}
}

// site is what a node's streams say of where its clients connect.
type site struct {
	addr  string
	why   string // the reason if addr is empty
	hosts []string
	rings map[string]string // accepted versions, by the name of the ring
	ready bool              // reports whether it has accepted the present version of all its rings
	keys  []string
}

// prove has one node proved, and keeps the result.
func (p *Prover) prove(ctx context.Context, node string, stream uint64) {
	defer p.endProof(stream)
	at := p.siteOf(p.cfg.Streams(ctx, server.Query{Node: node}))
	if !at.ready { // a rotation is under way: the node is proved when it has accepted its ring
		p.proveLater(stream)
		return
	}
	v := ProofResult{Words: at.why, At: time.Now()}
	if at.why == "" {
		v = p.cfg.Handshakes(ctx, ProofTarget{Addr: at.addr, Keys: at.keys, Hosts: p.compare(ctx, node, at)})
	}
	if ctx.Err() != nil {
		return
	}
	if now := p.siteOf(p.cfg.Streams(ctx, server.Query{Node: node})); !maps.Equal(now.rings, at.rings) || !now.ready {
		p.proveLater(stream) // what was seen may be of either ring
		return
	}
	p.mu.Lock()
	if p.proving[stream] == 0 {
		p.mu.Unlock()
		return
	}
	e := Evidence{ProofResult: v, Node: node, Rings: at.rings, Hosts: at.hosts, stream: stream}
	before := p.evidence[node]
	if !v.Proved && at.why == "" {
		e.tries = before.tries + 1
		time.AfterFunc(min(proveRetry<<min(e.tries-1, 6), proveRetryMost), func() { p.retry(node, stream) })
	}
	p.evidence[node] = e
	p.active.Store(true)
	p.mu.Unlock()
	switch {
	case v.Proved:
		p.cfg.Log.Info("a node that was in doubt has proved by handshakes that it uses its ring", "node", node,
			"words", v.Words)
	case v.Doubt:
		p.cfg.Log.Error("a node has accepted its ring, and handshakes show that it does not use it: "+
			"restart this Envoy",
			"node", node, "words", v.Words)
	case before.Doubt || before.Words != v.Words:
		p.cfg.Log.Info("a node was in doubt, and handshakes cannot show whether it uses its ring", "node", node,
			"words", v.Words)
	}
}

// retry has a node proved again that was not proved, unless something else has happened meanwhile.
func (p *Prover) retry(node string, stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.evidence[node]; e.Proved || e.stream != stream || p.due[node] != 0 {
		return
	}
	p.due[node] = stream
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// proveLater has the node proved when it accepts its next ring.
func (p *Prover) proveLater(stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proving[stream] > 0 {
		p.refused[stream] = true
		p.active.Store(true)
	}
}

// endProof notes that a proof has ended.
func (p *Prover) endProof(stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proving[stream]--; p.proving[stream] <= 0 {
		delete(p.proving, stream)
	}
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
			case host.IsSecond(): // sessions of its host are tried with the first one
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
	s.hosts = slices.DeleteFunc(s.hosts, func(h string) bool { return elsewhere(h, s.addr) })
	return s
}

// elsewhere reports whether a host is an IP address, and not that of addr. A handshake with addr
// would find another host there.
func elsewhere(host, addr string) bool {
	a, ok := keysource.Name(host).Address()
	at, err := netip.ParseAddrPort(addr)
	return ok && (err != nil || at.Addr() != a)
}

// address returns the node's own address with the port of its listener. Nothing else that a node
// says of itself is used as an address.
func address(remote string, port uint16) (addr, why string) {
	ip, err := netip.ParseAddrPort(remote)
	if remote == xds.LocalSocket {
		ip, err = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), nil
	}
	switch {
	case err != nil:
		return "", "not provable: its address is not known, it came over a socket of this machine"
	case port == 0:
		return "", "not provable: the port of its listener is not known " +
			"(bootstraps that lockstep writes say it in node.metadata)"
	}
	return net.JoinHostPort(ip.Addr().Unmap().String(), strconv.Itoa(int(port))), ""
}

// compare finds other nodes with which the node's hosts can be compared. These have accepted the
// same rings, and are not in doubt.
func (p *Prover) compare(ctx context.Context, node string, at site) []ProofHost {
	out := make([]ProofHost, len(at.hosts))
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
			if _, serves := slices.BinarySearch(other.hosts, out[i].Name); serves && other.addr != "" &&
				other.addr != at.addr && len(out[i].Others) < othersPerHost {
				out[i].Others = append(out[i].Others, other.addr)
			}
		}
		if len(seen) > othersExamined {
			break
		}
	}
	return out
}
