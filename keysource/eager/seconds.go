package eager

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// SecondsConfig is what [Seconds] need. Sources and Changed are required.
type SecondsConfig struct {
	Sources keysource.Sources
	// Refresh is the time after which a host is looked at again that could not be. The default is
	// 5 s.
	Refresh time.Duration
	// Changed is called with the eager hosts. The name of a second certificate follows its host's.
	// Run's goroutine calls it.
	Changed func([]keysource.Name)
	// Doubt says why a certificate that is missing may be lost. It may be nil.
	Doubt func(context.Context, keysource.Name) error
	// Log gets what an operator should know. If it is nil, nothing is logged.
	Log *slog.Logger
}

// Seconds finds out which eager hosts have a second certificate ([keysource.Name.Second]). All
// methods are safe for concurrent use.
//
// A host has two where both are found under its own name, or both under its wildcard, and the first
// one is ECDSA. While that cannot be looked up, it stays as it was. Nothing is said before it is
// known of every host: a chain that drops a certificate ends the tickets of its host.
type Seconds struct {
	cfg  SecondsConfig
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	hosts []keysource.Name
	set   bool // SetHosts was called
	known map[keysource.Name]bool
	// stale has the hosts to look at. A host in it may be known, too, and may be no longer eager.
	stale map[keysource.Name]struct{}
}

// lookAtOnce bounds how many hosts are looked at at the same time.
const lookAtOnce = 16

// NewSeconds starts nothing.
func NewSeconds(c SecondsConfig) *Seconds {
	if c.Refresh <= 0 {
		c.Refresh = defaultRefresh
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Seconds{
		cfg: c, wake: make(chan struct{}, 1), known: map[keysource.Name]bool{}, stale: map[keysource.Name]struct{}{},
	}
}

// SetHosts sets the eager hosts. The slice must not be changed afterwards.
func (s *Seconds) SetHosts(hosts []keysource.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts, s.set = hosts, true
	known := make(map[keysource.Name]bool, len(hosts))
	for _, h := range hosts {
		if has, ok := s.known[h]; ok {
			known[h] = has
		} else {
			s.stale[h] = struct{}{}
		}
	}
	s.known = known
	s.signal()
}

// Look says that the certificates of these names may have come, changed or gone. It never blocks.
func (s *Seconds) Look(names []keysource.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.stale)
	for _, n := range names {
		n = n.Host()
		if _, eager := s.known[n]; eager {
			s.stale[n] = struct{}{}
		}
		if !strings.HasPrefix(string(n), "*.") {
			continue
		}
		for h := range s.known {
			if h.Wildcard() == n {
				s.stale[h] = struct{}{}
			}
		}
	}
	if len(s.stale) > before {
		s.signal()
	}
}

// Run looks at hosts until ctx ends. Then it returns nil. It must be called only once.
func (s *Seconds) Run(ctx context.Context) error {
	retry := time.NewTimer(0)
	defer retry.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-retry.C:
		}
		err := s.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failed:
			s.cfg.Log.Error("cannot look for second certificates of eager hosts; what is known stays, trying again",
				"every", s.cfg.Refresh, "err", err)
		}
		if failed = err != nil; failed {
			retry.Reset(s.cfg.Refresh)
		}
		s.announce()
	}
}

// look looks at what is stale. What fails stays stale.
func (s *Seconds) look(ctx context.Context) error {
	s.mu.Lock()
	stale := s.stale
	s.stale = map[keysource.Name]struct{}{}
	s.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(lookAtOnce)
	for h := range stale {
		g.Go(func() error {
			has, err := s.hasSecond(ctx, h)
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				s.stale[h] = struct{}{}
				return err
			}
			s.known[h] = has
			return nil
		})
	}
	return g.Wait()
}

// hasSecond reports whether h has a second certificate that can be served.
func (s *Seconds) hasSecond(ctx context.Context, h keysource.Name) (bool, error) {
	s.mu.Lock()
	had := s.known[h]
	s.mu.Unlock()
	for _, n := range []keysource.Name{h, h.Wildcard()} {
		if n == "" {
			continue
		}
		_, _, err := s.cfg.Sources.Find(ctx, n.Second())
		switch {
		case errors.Is(err, keysource.ErrNotExist):
			continue
		case unusable(err):
			return had, nil
		case err != nil:
			return false, err
		}
		if n != h { // a certificate of its own comes before that of the wildcard, and is alone
			if _, _, err := s.cfg.Sources.Find(ctx, h); !errors.Is(err, keysource.ErrNotExist) {
				return false, passing(err)
			}
		}
		first, _, err := s.cfg.Sources.Find(ctx, n)
		if err != nil {
			return had && unusable(err), passing(err)
		}
		return first.CheckFirst(n) == nil, nil
	}
	if had && s.cfg.Doubt != nil {
		return false, s.cfg.Doubt(ctx, h.Second())
	}
	return false, nil
}

// unusable reports whether err says that a certificate is there and cannot be used.
func unusable(err error) bool {
	return errors.Is(err, keysource.ErrBadCertificate) || errors.Is(err, store.ErrSealed)
}

// passing returns err if a later look may show more.
func passing(err error) error {
	if unusable(err) || errors.Is(err, keysource.ErrNotExist) {
		return nil
	}
	return err
}

// announce calls Changed, if enough is known.
func (s *Seconds) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.set {
		return
	}
	all := make([]keysource.Name, 0, len(s.hosts))
	for _, h := range s.hosts {
		has, ok := s.known[h]
		if !ok {
			return
		}
		if all = append(all, h); has {
			all = append(all, h.Second())
		}
	}
	s.cfg.Changed(all)
}

func (s *Seconds) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
