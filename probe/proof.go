package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Subject is a node of which it is to be proved that every host uses a ring.
type Subject struct {
	Addr  string // host:port
	Hosts []Host // the hosts in whose filter chains the ring is
	// Keys are the IDs of the keys that may encrypt: the first key of the ring. A node with rings
	// of several scopes has several.
	Keys []string
}

// Host is a server name, and other nodes that serve it with the same ring.
type Host struct {
	Name string
	// Others are host:port. The first is used that makes a ticket and shows a certificate of the
	// same resumption context.
	Others []string
}

// Finding is what the handshakes of a proof showed.
type Finding uint8

const (
	Unproved Finding = iota // nothing can be shown; the words say why
	// Proved means that every host made a ticket with the right key, and resumed another node's if
	// there was one.
	Proved
	// Disproved means that a host did not. The words name it, and say what was seen.
	Disproved
)

// Proof is the outcome for one node.
type Proof struct {
	Finding Finding
	Words   string
	At      time.Time
}

// errClientCertificate means that the node lets nobody in without a client certificate, which a
// probe has not.
var errClientCertificate = errors.New("the node asks for a client certificate")

// errNoConnection means that TCP does not reach the address. The listener may have another one, or
// be behind something that lets nobody from here through.
var errNoConnection = errors.New("connect")

// maxTries is for one handshake that fails before TLS has said anything. A worker of the node may
// be busy.
const maxTries = 3

// Prover makes proofs. All proofs that it makes at the same time share one bound on handshakes.
// Its methods are safe for concurrent use.
type Prover struct {
	slots chan struct{} // holds one value for each handshake that is under way
	pause time.Duration // the pause between two tries
}

// NewProver returns a prover. It starts nothing.
func NewProver() *Prover { return &Prover{slots: make(chan struct{}, atOnce), pause: time.Second} }

// Prove makes a full handshake with each host, in TLS 1.2 and in 1.3. The ticket must be made with
// one of the keys of s. A ticket that another node made with such a key must resume, unless the
// two nodes show certificates of different resumption contexts. While a certificate is replaced,
// or a node has refused it, they do. They also do while the chain of one node alone has a second
// certificate. The words of the proof name the nodes then. Prove ends with the first host that
// disproves it, or with ctx. It checks no certificate, since it does not matter with which one the
// host is served.
//
// A host that does not answer is tried three times, for five seconds each. If TCP does not connect,
// nothing is shown. A connection that is closed before the handshake disproves the host: Envoy
// does that for a chain that has no secrets.
func (p *Prover) Prove(ctx context.Context, s Subject) Proof {
	if len(s.Hosts) == 0 {
		return Proof{Words: "it has no host with session tickets", At: time.Now()}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	out := Proof{Finding: Proved, Words: fmt.Sprintf("%d hosts, TLS 1.2 and 1.3", len(s.Hosts))}
	compared, tickets, apart := false, map[string]bool{}, ""
	var wg sync.WaitGroup
	for _, h := range s.Hosts {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if !p.acquire(ctx) { // before the goroutine, since a node may have thousands of hosts
				break
			}
			wg.Go(func() {
				defer p.release()
				finding, words, with := p.host(ctx, s, h, version)
				mu.Lock()
				defer mu.Unlock()
				compared = compared || with
				if finding == Unproved && words == "" { // another version may do
					return
				}
				tickets[h.Name] = true
				if finding == Proved && words != "" && (apart == "" || words < apart) {
					apart = words
				}
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
		out.Words += "; no other node with the same certificates was there to compare with"
	}
	if out.Finding == Proved && apart != "" {
		out.Words += "; " + apart
	}
	return out
}

func (p *Prover) acquire(ctx context.Context) bool {
	select {
	case p.slots <- struct{}{}:
		return ctx.Err() == nil || !p.release()
	case <-ctx.Done():
		return false
	}
}

func (p *Prover) release() bool { <-p.slots; return true }

// host tries one host in one version. with is true if another node's ticket was tried. Unproved
// without words means that the node does not speak the version. Proved with words means that a
// ticket of another node cannot resume, which the words explain.
func (p *Prover) host(ctx context.Context, s Subject, h Host, version uint16) (_ Finding, words string, with bool) {
	c := Config{SNI: clientName(h.Name), Insecure: true, Versions: []uint16{version}}
	what := func(format string, a ...any) string {
		return fmt.Sprintf("%s, %s: %s", h.Name, tls.VersionName(version), fmt.Sprintf(format, a...))
	}
	full, err := p.dial(ctx, s.Addr, c, nil)
	switch {
	case errors.Is(err, errClientCertificate):
		return Unproved, what("%v: no ticket can be had", errClientCertificate), false
	case errors.Is(err, ErrLargeKey):
		return Unproved, what("not provable: %v", err), false
	case isAlert(err) && strings.Contains(err.Error(), "protocol version"):
		return Unproved, "", false
	case errors.Is(err, errNoConnection):
		return Unproved, what("not provable, its listener cannot be reached from here: %v", err), false
	case err != nil:
		return Disproved, what("%v", err), false
	case full.Session == nil:
		return Disproved, what("%s makes no session ticket", s.Addr), false
	case !slices.Contains(s.Keys, full.Session.KeyID):
		return Disproved, what("its tickets are made with the key %s, the ring's first is %s", full.Session.KeyID,
			strings.Join(s.Keys, " or ")), false
	}
	var differs string
	for _, other := range h.Others {
		made, err := p.dial(ctx, other, c, nil)
		if err != nil || made.Session == nil || !slices.Contains(s.Keys, made.Session.KeyID) {
			continue // the other node's own proof shows that
		}
		r, err := p.dial(ctx, s.Addr, c, made.Session)
		switch {
		case errors.Is(err, errNoConnection):
			return Unproved, what("not provable, its listener cannot be reached any more: %v", err), true
		case err != nil:
			return Disproved, what("with a ticket of %s: %v", other, err), true
		case !r.Resumed && !sameContext(made.Leaf, r.Leaf, h.Name):
			continue // such a ticket resumes with no key
		case !r.Resumed:
			why, err := p.apart(ctx, s.Addr, other, h.Name)
			if why != "" {
				differs = what("%s, so tickets do not pass between the two until both have the same", why)
				continue
			}
			words := what("a ticket that %s made with the same key does not resume", other)
			if err != nil {
				words += fmt.Sprintf("; whether both have the same second certificate is not known: %v", err)
			}
			return Disproved, words, true
		}
		return Proved, differs, true
	}
	return Proved, differs, false
}

// sameContext reports whether tickets of a host pass between nodes that show these certificates.
func sameContext(a, b *x509.Certificate, host string) bool {
	var fingerprints [2]string
	for i, leaf := range []*x509.Certificate{a, b} {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
		c, err := keysource.ResumptionContext(block, keysource.Name(host))
		if err != nil {
			return false
		}
		fingerprints[i] = c.Fingerprint
	}
	return fingerprints[0] == fingerprints[1]
}

// dial tries again while the node cannot be reached. A listener may demand the PROXY protocol, and
// closes a connection without it: then a header goes first.
func (p *Prover) dial(ctx context.Context, addr string, c Config, offer *Session) (r Result, err error) {
	for try := range maxTries {
		if r, err = Dial(ctx, addr, c, offer); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			proxied := c
			proxied.ProxyProtocol = 2
			if through, err := Dial(ctx, addr, proxied, offer); err == nil || isAlert(err) {
				return through, err
			}
		}
		if err == nil || ctx.Err() != nil ||
			errors.Is(err, errClientCertificate) || isAlert(err) {
			return r, err
		}
		if try < maxTries-1 {
			select {
			case <-ctx.Done():
			case <-time.After(p.pause):
			}
		}
	}
	return r, err
}

// isAlert reports whether err is a TLS alert of the node.
func isAlert(err error) bool {
	op := (*net.OpError)(nil)
	return errors.As(err, &op) && op.Op == "remote error"
}

// clientName returns a name that a client can send for a host, which may be a wildcard.
func clientName(host string) string {
	if under, ok := strings.CutPrefix(host, "*."); ok {
		return "lockstep-proof." + under
	}
	return host
}
