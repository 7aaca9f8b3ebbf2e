package double

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
)

// Stream is the kind of the stream on which a secret comes.
type Stream int

// The streams of the bootstrap: all certificates come on one ADS stream, each ring on a stream of
// the SDS service.
const (
	ADS Stream = iota
	SDS
)

// Chain is a filter chain: the names of the secrets that its TLS context is built of.
type Chain struct {
	Certificate string // on ADS
	Ring        string // on the SDS service
}

// Config is what an [Envoy] is made of.
type Config struct {
	Chains []Chain // in the order of the listener

	// Refuses returns the words with which no TLS context can be built of the certificate; "" if
	// one can. Nil takes every certificate.
	Refuses func(*tlsv3.TlsCertificate) string
}

// Envoy is the part of an Envoy process that takes secrets. It is not safe for concurrent use.
type Envoy struct {
	config Config
	chains []*chain
	subs   map[subscription]*stored
}

// subscription names one subscription. All chains that name the same secret of the same source
// share it.
type subscription struct {
	on   Stream
	name string
}

// stored is what a subscription remembers.
type stored struct {
	// secret is the last one that was stored, also if contexts refused it. It is nil before the
	// first.
	secret *secret
	// claimed is the version of the last response that was taken. It is empty if there is none.
	claimed string
	ready   bool // ready is set when start-up no longer waits for the subscription.
}

// secret is one decoded secret. It is not changed once made.
type secret struct {
	name  string
	bytes []byte
	cert  *tlsv3.TlsCertificate
	keys  [][]byte
}

// chain is a filter chain that runs.
type chain struct {
	Chain
	// known is what the chain's configuration has learned. A chain that was not reached by an
	// update has older secrets than its subscriptions have stored.
	known
	serves known // serves is what the TLS context was built of. It is empty if there is none.
}

// known are the secrets of a TLS context. Both are nil if there is none.
type known struct{ cert, ring *secret }

// Context is a TLS context that a chain serves with.
type Context struct {
	Certificate *tlsv3.TlsCertificate
	Keys        [][]byte // Keys holds the ticket keys. The first one encrypts.
}

// Resource is one secret of a response.
type Resource struct {
	Name    string
	Version string
	Secret  []byte // Secret is an envoy.extensions.transport_sockets.tls.v3.Secret, encoded.
}

// New returns a process that has been started and has got nothing yet.
func New(c Config) *Envoy {
	e := &Envoy{config: c, subs: map[subscription]*stored{}}
	for _, ch := range c.Chains {
		e.chains = append(e.chains, &chain{Chain: ch})
		e.subs[subscription{ADS, ch.Certificate}] = &stored{}
		e.subs[subscription{SDS, ch.Ring}] = &stored{}
	}
	return e
}

// Clone returns a copy that goes its own way.
func (e *Envoy) Clone() *Envoy {
	c := &Envoy{config: e.config, subs: make(map[subscription]*stored, len(e.subs))}
	for _, ch := range e.chains {
		next := *ch
		c.chains = append(c.chains, &next)
	}
	for k, s := range e.subs {
		next := *s
		c.subs[k] = &next
	}
	return c
}

// Names returns the sorted names that the process subscribes to on a stream.
func (e *Envoy) Names(on Stream) []string {
	var names []string
	for k := range e.subs {
		if k.on == on {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

// Claims returns what the process says in initial_resource_versions when it connects again for some
// names: for each of them the version of the last response that it took. A refused response changes
// no claim, although its secrets may have been stored.
func (e *Envoy) Claims(on Stream, names ...string) map[string]string {
	claims := map[string]string{}
	for _, name := range names {
		if s := e.subs[subscription{on, name}]; s != nil && s.claimed != "" {
			claims[name] = s.claimed
		}
	}
	return claims
}

// Open reports whether the listener accepts connections. It opens when no subscription is waited
// for, and stays open.
func (e *Envoy) Open() bool {
	for _, s := range e.subs {
		if !s.ready {
			return false
		}
	}
	return true
}

// Serves returns the context of the i-th chain; nil if it has none and resets its clients.
func (e *Envoy) Serves(i int) *Context {
	s := e.chains[i].serves
	if s.cert == nil {
		return nil
	}
	return &Context{Certificate: s.cert.cert, Keys: s.ring.keys}
}

// Deliver takes one response and returns the words of the NACK, or "" for an ACK. Envoy takes the
// secrets of a response in no fixed order; Deliver takes them in the order given, and stops at the
// first that fails.
func (e *Envoy) Deliver(on Stream, resources []Resource, removed []string) (words string) {
	decoded := make([]*secret, len(resources))
	for i, r := range resources { // before any of them is delivered
		s, err := decode(r)
		if err != nil {
			return e.refuse(on, resources, err.Error())
		}
		decoded[i] = s
	}
	for i, r := range resources {
		if sub := e.subs[subscription{on, r.Name}]; sub != nil {
			if decoded[i].name != r.Name {
				return e.refuse(on, resources,
					fmt.Sprintf("Unexpected SDS secret (expecting %s): %s", r.Name, decoded[i].name))
			}
			if words := e.take(on, r.Name, sub, decoded[i]); words != "" {
				return e.refuse(on, resources, words)
			}
		}
	}
	for _, name := range removed {
		if sub := e.subs[subscription{on, name}]; sub != nil {
			sub.ready = true
		}
	}
	for _, r := range resources {
		if sub := e.subs[subscription{on, r.Name}]; sub != nil {
			sub.claimed = r.Version
		}
	}
	for _, name := range removed {
		if sub := e.subs[subscription{on, name}]; sub != nil {
			sub.claimed = ""
		}
	}
	return ""
}

// refuse ends the wait of start-up for every subscription of the stream, as any NACK does. A ring
// has a stream of its own.
func (e *Envoy) refuse(on Stream, resources []Resource, words string) string {
	for k, s := range e.subs {
		if k.on == on && (on == ADS ||
			slices.ContainsFunc(resources, func(r Resource) bool { return r.Name == k.name })) {
			s.ready = true
		}
	}
	return words
}

// take delivers one secret to its subscription.
func (e *Envoy) take(on Stream, name string, sub *stored, s *secret) (words string) {
	if sub.secret != nil && bytes.Equal(sub.secret.bytes, s.bytes) {
		sub.ready = true
		return ""
	}
	if on == SDS {
		if words := checkRing(s.keys); words != "" {
			return words
		}
	}
	sub.secret = s
	for _, c := range e.chains {
		switch {
		case on == ADS && c.Certificate == name:
			if words := incomplete(s.cert); words != "" {
				c.cert = nil // the context stays until something else has it built anew
				return words
			}
			c.cert = s
		case on == SDS && c.Ring == name:
			c.ring = s
		default:
			continue
		}
		if words := e.build(c); words != "" {
			return words
		}
	}
	sub.ready = true
	return ""
}

// build makes the context of a chain anew. A chain that lacks a secret has none, and that is no
// error. A secret of another kind in place of the ring has no keys, and counts as lacking.
func (e *Envoy) build(c *chain) (words string) {
	if c.cert == nil || c.ring == nil || len(c.ring.keys) == 0 {
		c.serves = known{}
		return ""
	}
	if e.config.Refuses != nil {
		if words := e.config.Refuses(c.cert.cert); words != "" {
			return words
		}
	}
	c.serves = c.known
	return ""
}

const ticketKeySize = 80

// incomplete returns the words for a secret in which a part of a certificate is missing. A secret
// of another kind lacks both.
func incomplete(c *tlsv3.TlsCertificate) (words string) {
	switch {
	case c.GetPrivateKey() == nil:
		return "Failed to load incomplete private key from path: "
	case c.GetCertificateChain() == nil:
		return "Failed to load incomplete certificate from : certificate chain not set"
	}
	return ""
}

func checkRing(keys [][]byte) (words string) {
	for _, k := range keys {
		if len(k) != ticketKeySize {
			return fmt.Sprintf("Incorrect TLS session ticket key length. Length %d, expected length %d.",
				len(k), ticketKeySize)
		}
	}
	return ""
}

// errNoKeys has words of the constraints of the message, which are checked when it is decoded.
var errNoKeys = errors.New("TlsSessionTicketKeysValidationError.Keys: value must contain at least 1 item(s)")

func decode(r Resource) (*secret, error) {
	m := &tlsv3.Secret{}
	if err := proto.Unmarshal(r.Secret, m); err != nil {
		return nil, fmt.Errorf("double: secret %s: %w", r.Name, err)
	}
	s := &secret{name: m.GetName(), bytes: r.Secret, cert: m.GetTlsCertificate()}
	if keys := m.GetSessionTicketKeys(); keys != nil && len(keys.GetKeys()) == 0 {
		return nil, errNoKeys
	}
	for _, k := range m.GetSessionTicketKeys().GetKeys() {
		s.keys = append(s.keys, k.GetInlineBytes())
	}
	return s, nil
}

// String shows all that distinguishes two processes of one configuration: for each chain what it
// has learned and what it serves, for each subscription what it has stored and what it claims.
// Secrets are shown by digests.
func (e *Envoy) String() string {
	var b strings.Builder
	for i, c := range e.chains {
		fmt.Fprintf(&b, "chain %d knows %s %s serves %s %s; ", i, short(c.cert), short(c.ring),
			short(c.serves.cert), short(c.serves.ring))
	}
	for _, on := range []Stream{ADS, SDS} {
		for _, name := range e.Names(on) {
			s := e.subs[subscription{on, name}]
			fmt.Fprintf(&b, "%s stored %s claimed %q ready %t; ", name, short(s.secret), s.claimed, s.ready)
		}
	}
	return b.String()
}

func short(s *secret) string {
	if s == nil {
		return "none"
	}
	sum := sha256.Sum256(s.bytes)
	return hex.EncodeToString(sum[:3])
}
