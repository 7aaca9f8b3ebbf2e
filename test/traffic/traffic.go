// Package traffic drives TLS clients that carry their sessions from node to node, and keeps
// account: a ticket that is younger than its lifetime and is offered to a node that is up must
// resume, and a handshake there must succeed.
package traffic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
)

// Config of [New].
type Config struct {
	Nodes    map[string]string // name: host:port of the TLS listener
	Hosts    []string
	Roots    *x509.CertPool
	Lifetime time.Duration // of a ticket; sessions are given up a little before
	Workers  int           // per kind
	Hops     int           // that a worker makes before it starts with a fresh session
	Pause    time.Duration // between two handshakes of a worker
}

// Kinds are the client kinds.
var Kinds = map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"}

// Count is the account of one kind.
type Count struct {
	Handshakes int // that succeeded
	Offered    int // live tickets offered to nodes that were up
	Resumed    int
	Refused    int // live tickets that were not resumed
	Failed     int // handshakes that failed on a node that was up
}

// Traffic is the account and the sessions. All methods are safe for concurrent use.
type Traffic struct {
	cfg Config

	mu       sync.Mutex
	up       map[string]uint64 // node: how often it came up; 0: it is down
	lives    uint64
	counts   map[uint16]*Count
	sessions map[ticket]held
	words    []string // of the first failures
}

// ticket tells sessions apart by what matters: who made them, with which key.
type ticket struct {
	version uint16
	key     string
	from    string
}

type held struct {
	host    string
	session *probe.Session
}

// New counts every node as up.
func New(c Config) *Traffic {
	t := &Traffic{cfg: c, up: map[string]uint64{}, counts: map[uint16]*Count{}, sessions: map[ticket]held{}}
	for n := range c.Nodes {
		t.Up(n)
	}
	for v := range Kinds {
		t.counts[v] = &Count{}
	}
	return t
}

// Up and Down say whether a node is expected to answer. What was under way when it changed is not
// held against it.
func (t *Traffic) Up(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lives++
	t.up[node] = t.lives
}

// Down says that a node is about to be stopped.
func (t *Traffic) Down(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.up[node] = 0
}

// Run drives the workers until ctx ends.
func (t *Traffic) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for v := range Kinds {
		for range t.cfg.Workers {
			wg.Go(func() { t.work(ctx, v) })
		}
	}
	wg.Wait()
}

func (t *Traffic) work(ctx context.Context, version uint16) {
	for ctx.Err() == nil {
		host := t.cfg.Hosts[rand.IntN(len(t.cfg.Hosts))]
		var s *probe.Session
		at := ""
		for range t.cfg.Hops {
			at = t.other(at)
			next, how := t.Dial(ctx, version, at, host, s)
			if how == Ended {
				break
			}
			if next != nil {
				s = next
			}
			if s == nil || time.Since(s.Issued) > t.cfg.Lifetime*3/4 {
				break
			}
			time.Sleep(t.cfg.Pause)
		}
	}
}

// other picks a node that is up and is not at; where there is none, at.
func (t *Traffic) other(at string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for n, life := range t.up {
		if life != 0 && n != at {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return at
	}
	slices.Sort(names)
	return names[rand.IntN(len(names))]
}

// Outcome of one handshake.
type Outcome int

const (
	Ended   Outcome = iota // no handshake, and nobody's fault: the node is down, or ctx ended
	Failed                 // none on a node that was up
	Full                   // a full handshake where nothing else was due
	Resumed                // the offered session was resumed
	Refused                // a live ticket was not
)

// sure is the age up to which a ticket is certainly live: Envoy counts the life of a TLS 1.2
// session in whole seconds from the middle of the handshake that made it, and judges a little after
// it is offered.
func (t *Traffic) sure() time.Duration {
	return t.cfg.Lifetime - max(t.cfg.Lifetime/10, 1500*time.Millisecond)
}

// Dial makes one handshake, keeps account of it, and returns the session to go on with.
func (t *Traffic) Dial(
	ctx context.Context, version uint16, node, host string, offer *probe.Session,
) (*probe.Session, Outcome) {
	before := t.life(node)
	live := offer != nil && time.Since(offer.Issued) < t.sure()
	r, err := probe.Dial(ctx, t.cfg.Nodes[node],
		probe.Config{SNI: host, RootCAs: t.cfg.Roots, Versions: []uint16{version}}, offer)
	if ctx.Err() != nil {
		return nil, Ended
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[version]
	wasUp := before != 0 && t.up[node] == before
	if err != nil {
		if !wasUp {
			return nil, Ended
		}
		c.Failed++
		t.say("%s %s on %s: %v", Kinds[version], host, node, err)
		return nil, Failed
	}
	c.Handshakes++
	how := Full
	if r.Resumed {
		c.Resumed++
		how = Resumed
	}
	if live && wasUp {
		c.Offered++
		if !r.Resumed {
			c.Refused++
			how = Refused
			t.say("%s %s on %s: a ticket of key %s, %s old, was refused",
				Kinds[version], host, node, offer.KeyID, time.Since(offer.Issued).Round(time.Millisecond))
		}
	}
	if r.Session != nil {
		if r.Resumed && version == tls.VersionTLS12 {
			// a new ticket for the old session: Envoy counts its life from the full handshake
			r.Session.Issued = offer.Issued
		}
		t.sessions[ticket{version, r.Session.KeyID, node}] = held{host, r.Session}
	}
	return r.Session, how
}

func (t *Traffic) say(format string, a ...any) {
	if len(t.words) < 20 {
		t.words = append(t.words, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, a...))
	}
}

func (t *Traffic) life(node string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.up[node]
}

// Counts is the account so far, by TLS version, and the first failures in words.
func (t *Traffic) Counts() (map[uint16]Count, []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[uint16]Count{}
	for v, c := range t.counts {
		out[v] = *c
	}
	return out, slices.Clone(t.words)
}

// Makers returns, per kind, the nodes that are up and hold a live ticket made with the key: whoever
// lacks one has not been seen to use it.
func (t *Traffic) Makers(key string) map[uint16][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[uint16][]string{}
	for k, h := range t.sessions {
		if k.key == key && t.up[k.from] != 0 && time.Since(h.session.Issued) < t.cfg.Lifetime {
			out[k.version] = append(out[k.version], k.from)
		}
	}
	return out
}

// Cross offers, for each key and kind, a live ticket of each node at every other node that is up,
// and returns how many were offered and the pairs that did not resume.
func (t *Traffic) Cross(ctx context.Context, keys []string) (offered int, bad []string) {
	t.mu.Lock()
	all := maps.Clone(t.sessions)
	t.mu.Unlock()
	for k, h := range all {
		if !slices.Contains(keys, k.key) || time.Since(h.session.Issued) > t.cfg.Lifetime*3/4 {
			continue
		}
		for node := range t.cfg.Nodes {
			if node == k.from || t.life(node) == 0 {
				continue
			}
			switch _, how := t.Dial(ctx, k.version, node, h.host, h.session); how {
			case Failed, Refused:
				bad = append(bad, fmt.Sprintf("%s %s → %s", Kinds[k.version], k.from, node))
				fallthrough
			case Resumed:
				offered++
			}
		}
	}
	return offered, bad
}
