// Package secrets holds what the control plane gave the edge: certificates, loaded as clients first ask for them, and the rings of its scopes. What it has
// stays, and serves, when the control plane is gone.
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

// The reasons why there is no certificate for a client. The text says which name.
var (
	// ErrNotExist: the control plane says so, or said so a moment ago.
	ErrNotExist = errors.New("no certificate")
	// ErrTimeout: the control plane did not answer in time.
	ErrTimeout = errors.New("the control plane does not answer")
	// ErrBusy: too many other names are being waited for.
	ErrBusy = errors.New("too many certificates are being loaded")
)

const (
	// absentFor is for how long an absence is believed. The subscription has ended, so that a certificate that is put later is found then.
	absentFor = 5 * time.Second
	// absentMost is how many absences are remembered: clients choose the names.
	absentMost = 10_000
	// servesWithin is how long a client whose session might be resumed waits for the word that its host is there still.
	servesWithin = 250 * time.Millisecond
	// loadsMost is how many names may be waited for at once.
	loadsMost = 4096
)

// Config is what Secrets needs. All but Preload and Log is required.
type Config struct {
	Conn    grpc.ClientConnInterface // to the control plane
	Node    *corev3.Node
	Scopes  []string         // whose rings are kept
	Preload []keysource.Name // asked for at the start, and never given up for another
	Names   int              // how many other certificates are held; those that are asked for least are given up
	Wait    time.Duration    // for the answer of the control plane, while a client waits
	// Ring takes a ring into use before it returns; what it returns is what the control plane is told. Calls come one at a time.
	Ring func(scope string, r keysource.Ring) error
	Log  *slog.Logger // nil: nowhere
}

// Secrets is safe for concurrent use.
type Secrets struct {
	cfg    Config
	client *client.Client
	held   *otter.Cache[keysource.Name, *certificate]
	absent *otter.Cache[keysource.Name, struct{}]
	equals equals

	turn   sync.Mutex // one ring at a time; before mu
	mu     sync.Mutex
	pinned map[keysource.Name]*certificate // those of Preload, nil until they are there; the keys never change
	loads  map[keysource.Name]*load
	rings  map[string]keysource.Ring
	ready  chan struct{} // closed when each scope has a ring

	changed chan struct{} // capacity 1: what All returns is another one
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
		MaximumSize: absentMost, ExpiryCalculator: otter.ExpiryWriting[keysource.Name, struct{}](absentFor),
	})
	// One stream for all: over SDS, since rings are served there only. It begins with the rings, so that they come before any certificate.
	s.client = client.New(client.Config{
		Conn: c.Conn, Node: c.Node, Type: wire.TypeURL, Method: secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName, Apply: s.apply, Log: c.Log,
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

// Certificate returns the certificate to serve under n. One that is not there is asked for, once for all who wait, and waited for until ctx ends or
// Config.Wait is over. Errors wrap ErrNotExist, ErrTimeout or ErrBusy.
func (s *Secrets) Certificate(ctx context.Context, n keysource.Name) (*tls.Certificate, error) {
	if c := s.have(n); c != nil {
		return c.tls, nil
	}
	if _, no := s.absent.GetIfPresent(n); no {
		return nil, fmt.Errorf("%w for %s", ErrNotExist, n)
	}
	return s.load(ctx, n)
}

// Serves reports whether n has a certificate now, as far as the control plane can tell in a moment: what it was made to let go of, or has not been asked for yet, is
// asked for, and where it is not there, or does not answer, n is not known to have none.
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

// have returns what is held for n and has not expired.
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

// Held counts the certificates that are held.
func (s *Secrets) Held() int { return s.held.EstimatedSize() + len(s.cfg.Preload) }
