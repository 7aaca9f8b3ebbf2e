package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Subject is a node of which it is to be shown that every host uses a ring.
type Subject struct {
	Addr  string // host:port
	Hosts []Host // in whose filter chains the ring is
	// Keys are the IDs of the keys that may encrypt: the first of the ring. A node with rings of several scopes has several.
	Keys []string
}

// Host is a server name, and other nodes that serve it with the same ring.
type Host struct {
	Name   string
	Others []string // host:port; of these the first that makes a ticket is used
}

// Finding is what the handshakes of a proof showed.
type Finding uint8

const (
	Unproved  Finding = iota // it cannot be shown; the words say why
	Proved                   // every host made a ticket with the right key, and resumed another node's where there was one
	Disproved                // a host did not; the words name it, and say what was seen
)

// Proof is the outcome for one node.
type Proof struct {
	Finding Finding
	Words   string
	At      time.Time
}

// errClientCertificate: the node asks for a client certificate, which a probe has not, and let nobody in without one.
var errClientCertificate = errors.New("the node asks for a client certificate")

const proofTries = 3 // of one handshake that fails before TLS has said anything: a worker may be busy

// Prover makes proofs. All that are made at once share one bound on handshakes. Its methods are safe for concurrent use.
type Prover struct {
	slots chan struct{} // one in it for each handshake that is under way
	pause time.Duration // between two tries
}

// NewProver starts nothing.
func NewProver() *Prover { return &Prover{slots: make(chan struct{}, atOnce), pause: time.Second} }

// Prove makes a full handshake with each host, in TLS 1.2 and in 1.3. The ticket must be made with one of the keys of s. A ticket
// that another node made with such a key must resume. It ends with the first host that disproves it, or with ctx.
// No certificate is checked: what the host is served with is not the question.
//
// A host that cannot be reached is tried three times, for five seconds each.
func (p *Prover) Prove(ctx context.Context, s Subject) Proof {
	if len(s.Hosts) == 0 {
		return Proof{Words: "it has no host with session tickets", At: time.Now()}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	out := Proof{Finding: Proved, Words: fmt.Sprintf("%d hosts, TLS 1.2 and 1.3", len(s.Hosts))}
	compared, tickets := false, map[string]bool{}
	var wg sync.WaitGroup
	for _, h := range s.Hosts {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if !p.take(ctx) { // before the goroutine: a node may have thousands of hosts
				break
			}
			wg.Go(func() {
				defer p.give()
				finding, words, with := p.host(ctx, s, h, version)
				mu.Lock()
				defer mu.Unlock()
				compared = compared || with
				if finding == Unproved && words == "" { // another version may do
					return
				}
				tickets[h.Name] = true
				if finding != Proved && out.Finding == Proved && ctx.Err() == nil {
					out.Finding, out.Words = finding, words
					cancel()
				}
			})
		}
	}
	wg.Wait()
	if out.At = time.Now(); out.Finding == Proved && ctx.Err() != nil {
		return Proof{Words: "it was broken off", At: out.At}
	}
	if out.Finding == Proved && len(tickets) < len(s.Hosts) {
		return Proof{Words: "some hosts speak neither TLS 1.2 nor 1.3", At: out.At}
	}
	if out.Finding == Proved && !compared {
		out.Words += "; no other node was there to compare with"
	}
	return out
}

func (p *Prover) take(ctx context.Context) bool {
	select {
	case p.slots <- struct{}{}:
		return ctx.Err() == nil || !p.give()
	case <-ctx.Done():
		return false
	}
}

func (p *Prover) give() bool { <-p.slots; return true }

// host tries one host in one version. with is true if another node's ticket was tried. Without words it is unproved since the node does not speak
// the version.
func (p *Prover) host(ctx context.Context, s Subject, h Host, version uint16) (_ Finding, words string, with bool) {
	c := Config{SNI: concrete(h.Name), Insecure: true, Versions: []uint16{version}}
	what := func(format string, a ...any) string {
		return fmt.Sprintf("%s, %s: %s", h.Name, tls.VersionName(version), fmt.Sprintf(format, a...))
	}
	full, err := p.dial(ctx, s.Addr, c, nil)
	switch {
	case errors.Is(err, errClientCertificate):
		return Unproved, what("%v: no ticket can be had", errClientCertificate), false
	case judged(err) && strings.Contains(err.Error(), "protocol version"):
		return Unproved, "", false
	case err != nil:
		return Disproved, what("%v", err), false
	case full.Session == nil:
		return Disproved, what("%s makes no session ticket", s.Addr), false
	case !slices.Contains(s.Keys, full.Session.KeyID):
		return Disproved, what("its tickets are made with the key %s, the ring's first is %s", full.Session.KeyID, strings.Join(s.Keys, " or ")), false
	}
	for _, other := range h.Others {
		made, err := p.dial(ctx, other, c, nil)
		if err != nil || made.Session == nil || !slices.Contains(s.Keys, made.Session.KeyID) {
			continue // that one's own proof is another matter
		}
		r, err := p.dial(ctx, s.Addr, c, made.Session)
		switch {
		case err != nil:
			return Disproved, what("with a ticket of %s: %v", other, err), true
		case !r.Resumed:
			return Disproved, what("a ticket that %s made with the same key does not resume: is the certificate the same?", other), true
		}
		return Proved, "", true
	}
	return Proved, "", false
}

// dial tries again while the node cannot be reached.
func (p *Prover) dial(ctx context.Context, addr string, c Config, offer *Session) (r Result, err error) {
	for try := range proofTries {
		if r, err = Dial(ctx, addr, c, offer); err == nil || ctx.Err() != nil || errors.Is(err, errClientCertificate) || judged(err) {
			return r, err
		}
		if try < proofTries-1 {
			select {
			case <-ctx.Done():
			case <-time.After(p.pause):
			}
		}
	}
	return r, err
}

// judged reports whether err is what the node said, by a TLS alert.
func judged(err error) bool {
	op := (*net.OpError)(nil)
	return errors.As(err, &op) && op.Op == "remote error"
}

// concrete is a name that a client can send for a host, which may be a wildcard.
func concrete(host string) string {
	if under, ok := strings.CutPrefix(host, "*."); ok {
		return "lockstep-proof." + under
	}
	return host
}
