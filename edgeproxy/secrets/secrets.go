// Package secrets has what the control plane gave the edge: certificates, loaded when clients
// first ask for them, and the rings of its scopes.
//
// Its rules:
//
//   - What it has stays, and serves, while the control plane is gone.
//   - A name costs one subscription while it is held or waited for, and nothing afterwards. All
//     bounds are constants here or in [Config].
//   - A ring is never absent: the last good one stays.
//   - A response with a bad certificate is refused, and the error says which one.
//
// It shares no code with the server: it decodes secrets with package sds/wire.
package secrets

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/maypok86/otter/v2"
	"google.golang.org/grpc"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds/wire"
	"github.com/lockstep-tls/lockstep/xds/client"
)

// These are the reasons why there is no certificate for a client. The text names it.
var (
	// ErrNotExist means that the control plane says so, or said so a moment ago. It is a
	// [keysource.ErrNotExist].
	ErrNotExist error = notExist{}
	// ErrTimeout means that the control plane did not answer in time.
	ErrTimeout = errors.New("the control plane does not answer")
	// ErrBusy means that too many other names are being waited for.
	ErrBusy = errors.New("too many certificates are being loaded")
)

type notExist struct{}

func (notExist) Error() string        { return "no certificate" }
func (notExist) Is(target error) bool { return target == keysource.ErrNotExist }

const (
	// absentFor is how long an absence is believed. Its subscription has ended, so a certificate
	// that is put later is found after that.
	absentFor = 5 * time.Second
	// maxAbsent is how many absences are remembered, since clients choose the names.
	maxAbsent = 10_000
	// servesWithin is how long a client whose session might be resumed waits to learn whether its
	// host still exists.
	servesWithin = 250 * time.Millisecond
	// maxLoads is how many names may be waited for at once.
	maxLoads = 4096
)

// Config is what Secrets needs. Everything but Preload, Lost, Reached and Log is required.
type Config struct {
	Conn    grpc.ClientConnInterface // to the control plane
	Node    *corev3.Node
	Scopes  []string         // the scopes whose rings are kept
	Preload []keysource.Name // names that are asked for at the start, and never evicted
	Names   int              // how many other certificates are held; the least used are evicted
	Wait    time.Duration    // how long a client waits for the answer of the control plane
	// Ring brings a ring into use before it returns. The control plane is told the error that it
	// returns. Calls come one at a time.
	Ring func(scope string, r keysource.Ring) error
	// Lost and Reached are those of [client.Config].
	Lost    func(error)
	Reached func()
	Log     *slog.Logger // nil logs nothing
}

// Secrets has the certificates and rings of an edge. It is safe for concurrent use.
type Secrets struct {
	cfg    Config
	client *client.Client
	held   *otter.Cache[keysource.Name, *certificate]
	absent *otter.Cache[keysource.Name, struct{}]
	shared sharedCertificates

	ringTurn sync.Mutex // one ring at a time; taken before mu
	mu       sync.Mutex
	// pinned has the names of Preload, with nil until they come. Its keys never change.
	pinned map[keysource.Name]*certificate
	loads  map[keysource.Name]*load
	rings  map[string]keysource.Ring
	ready  chan struct{} // closed when each scope has a ring

	changed chan struct{} // capacity 1; ready when what Rings or Certificates return has changed
}

// New returns Secrets that are empty until Run has asked for them.
func New(c Config) *Secrets {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Secrets{
		cfg:    c,
		pinned: make(map[keysource.Name]*certificate),
		loads:  make(map[keysource.Name]*load),
		rings:  make(map[string]keysource.Ring),
		ready:  make(chan struct{}),

		changed: make(chan struct{}, 1),
	}
	s.held = otter.Must(&otter.Options[keysource.Name, *certificate]{MaximumSize: c.Names, OnDeletion: s.evicted})
	s.absent = otter.Must(&otter.Options[keysource.Name, struct{}]{
		MaximumSize: maxAbsent, ExpiryCalculator: otter.ExpiryWriting[keysource.Name, struct{}](absentFor),
	})
	// One SDS stream has everything, since rings are served on SDS only. It begins with the rings,
	// so that they come before any certificate.
	s.client = client.New(client.Config{
		Conn: c.Conn, Node: c.Node, Type: wire.TypeURL,
		Method: secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName, Apply: s.apply,
		Lost: c.Lost, Reached: c.Reached, Log: c.Log,
	})
	for _, scope := range c.Scopes {
		s.client.Subscribe(keysource.RingName(scope))
	}
	for _, n := range c.Preload {
		s.pinned[n] = nil
		s.client.Subscribe(string(n))
	}
	return s
}

// Run keeps the secrets current until ctx ends.
func (s *Secrets) Run(ctx context.Context) error {
	defer s.held.StopAllGoroutines()
	defer s.absent.StopAllGoroutines()
	return s.client.Run(ctx)
}

// Ready is closed when every scope has a ring.
func (s *Secrets) Ready() <-chan struct{} { return s.ready }

// Certificate returns the certificate to serve under n. If it is not held it is asked for, once
// for all who wait. The wait ends with ctx, or when Config.Wait is over. Errors wrap ErrNotExist,
// ErrTimeout or ErrBusy.
func (s *Secrets) Certificate(ctx context.Context, n keysource.Name) (*tls.Certificate, error) {
	if c := s.have(n); c != nil {
		return c.tls, nil
	}
	if _, no := s.absent.GetIfPresent(n); no {
		return nil, fmt.Errorf("%w for %s", ErrNotExist, n)
	}
	return s.load(ctx, n)
}

// Serves reports whether n has a certificate now, as far as the control plane can tell in a
// moment. A name that was evicted, or was not asked for yet, is asked for. If the control plane is
// gone or does not answer, it is not known that n has none.
func (s *Secrets) Serves(n keysource.Name) bool {
	if s.have(n) != nil {
		return true
	}
	if _, no := s.absent.GetIfPresent(n); no {
		return false
	}
	if !s.client.Live() {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), servesWithin)
	defer cancel()
	_, err := s.load(ctx, n)
	return !errors.Is(err, ErrNotExist)
}

// have returns the certificate that is held for n, if it has not expired.
func (s *Secrets) have(n keysource.Name) *certificate {
	c, ok := s.held.GetIfPresent(n)
	if !ok {
		if len(s.cfg.Preload) == 0 {
			return nil
		}
		s.mu.Lock()
		c = s.pinned[n]
		s.mu.Unlock()
	}
	if c == nil || time.Now().After(c.tls.Leaf.NotAfter) {
		return nil
	}
	return c
}

// Held returns how many certificates are held.
func (s *Secrets) Held() int { return s.held.EstimatedSize() + len(s.cfg.Preload) }
