package sds

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a keysource.Source by hand.
type source struct {
	mu sync.Mutex
	// what the chain says; "!" cannot look, "?" is no good, "…" hangs until its context ends, "("
	// until it is let go
	certs map[keysource.Name]string
	calls map[keysource.Name]int
	free  chan struct{} // closed: "(" goes on
	busy  map[keysource.Name]int
	most  int // flights of one name at once
}

func newSource() *source {
	return &source{certs: map[keysource.Name]string{}, calls: map[keysource.Name]int{}, busy: map[keysource.Name]int{},
		free: make(chan struct{})}
}

func (s *source) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	s.mu.Lock()
	s.calls[n]++
	s.busy[n]++
	s.most = max(s.most, s.busy[n])
	what, ok := s.certs[n]
	free := s.free
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.busy[n]--
		s.mu.Unlock()
	}()
	if name, waits := strings.CutPrefix(what, "("); waits {
		what = name
		<-free
	}
	switch {
	case !ok:
		return keysource.Certificate{}, fmt.Errorf("%q %w", n, keysource.ErrNotExist)
	case what == "!":
		return keysource.Certificate{}, fmt.Errorf("the disk is on fire")
	case what == "?":
		return keysource.Certificate{}, fmt.Errorf("%s: %w", n, keysource.ErrBadCertificate)
	case what == "…":
		<-ctx.Done()
		return keysource.Certificate{}, ctx.Err()
	}
	return keysource.Certificate{PEM: keysource.PEM{Chain: []byte(what), Key: []byte("key of " + what)}}, nil
}

func (s *source) set(n keysource.Name, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs[n] = what
}

func (s *source) remove(n keysource.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.certs, n)
}

func (s *source) called(n keysource.Name) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[n]
}

// rings is a Rings by hand: the scope "default" has a ring, which streams may have that are not
// kept waiting.
type rings struct {
	mu      sync.Mutex
	ring    *keysource.Ring
	barred  map[uint64]bool
	waiting map[uint64]bool
}

func newRings() *rings {
	return &rings{ring: ring(1), barred: map[uint64]bool{}, waiting: map[uint64]bool{}}
}

func ring(generation uint64) *keysource.Ring {
	r := &keysource.Ring{Generation: generation}
	for range generation {
		r.Keys = append(r.Keys, keysource.NewTicketKey())
	}
	return r
}

func (r *rings) Ring(stream uint64, scope string) (*keysource.Ring, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case scope != "default" || r.waiting[stream]:
		return nil, false
	case r.barred[stream]:
		return nil, true
	}
	return r.ring, false
}

func (r *rings) bar(stream uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.barred[stream] = true
}

func (r *rings) set(ring *keysource.Ring) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring = ring
}

// lab is a table that runs, in a synctest bubble.
type lab struct {
	*Table
	*source
	rings *rings
	log   strings.Builder // read while the bubble waits
}

func newLab() *lab {
	l := &lab{source: newSource(), rings: newRings()}
	l.Table = NewTable(Config{Sources: keysource.Sources{l.source}, Rings: l.rings,
		Log: slog.New(slog.NewTextHandler(&l.log, nil))})
	return l
}

func (l *lab) start(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func node(stream uint64, svc xds.Service) xds.Node {
	return xds.Node{ID: fmt.Sprintf("n%d", stream), Stream: stream, Service: svc}
}
