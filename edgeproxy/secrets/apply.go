package secrets

import (
	"errors"
	"fmt"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds/wire"
	"github.com/lockstep-tls/lockstep/xds"
)

// apply takes a response of the control plane. It takes all of it, or, if it returns an error,
// none of its certificates. The stream's goroutine calls it.
func (s *Secrets) apply(resources []*xds.Resource, removed []string) error {
	certs := make(map[keysource.Name]*certificate)
	rings := make(map[string]keysource.Ring)
	for _, r := range resources {
		if scope, ok := keysource.RingScope(r.Name); ok {
			ring, err := wire.Ring(r)
			if err != nil {
				return err
			}
			rings[scope] = ring
			continue
		}
		c, err := s.shared.parse(r)
		if err != nil {
			s.refuse(keysource.Name(r.Name), err)
			return err
		}
		certs[keysource.Name(r.Name)] = c
	}
	for scope, ring := range rings {
		if err := s.useRing(scope, ring, true); err != nil {
			return fmt.Errorf("%q: %w", keysource.RingName(scope), err)
		}
	}
	defer s.signalChanged()
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, c := range certs {
		if _, ok := s.pinned[n]; ok {
			s.pinned[n] = c
		} else {
			s.held.Set(n, c)
		}
		s.absent.Invalidate(n)
		s.finish(n, c, nil)
	}
	for _, name := range removed {
		if _, ok := keysource.RingScope(name); !ok {
			s.remove(keysource.Name(name))
		} // a ring is never absent: the last good one stays
	}
	return nil
}

// refuse ends the wait for a certificate that cannot be used. It is not remembered, since the
// control plane sends a better one.
func (s *Secrets) refuse(n keysource.Name, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(n, nil, fmt.Errorf("%w that can be used: %w", ErrNotExist, err))
}

// remove gives n up. That is an absence to remember only if it answers those who wait: the control
// plane may also want n to be asked for again. A name of Preload stays subscribed, so that its
// certificate comes when it exists. The caller holds mu.
func (s *Secrets) remove(n keysource.Name) {
	s.held.Invalidate(n)
	if _, ok := s.pinned[n]; ok {
		s.pinned[n] = nil
	} else {
		s.client.Unsubscribe(string(n))
	}
	if s.loads[n] != nil {
		s.absent.Set(n, struct{}{})
	}
	s.finish(n, nil, fmt.Errorf("%w for %s", ErrNotExist, n))
}

// useRing brings a ring into use. If there is one already, it does so only with replace.
func (s *Secrets) useRing(scope string, r keysource.Ring, replace bool) error {
	if !slices.Contains(s.cfg.Scopes, scope) {
		return errors.New("nobody asked for it")
	}
	s.ringTurn.Lock()
	defer s.ringTurn.Unlock()
	s.mu.Lock()
	_, has := s.rings[scope]
	s.mu.Unlock()
	if has && !replace {
		return nil
	}
	if err := s.cfg.Ring(scope, r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rings[scope] = r
	if !has && len(s.rings) == len(s.cfg.Scopes) {
		close(s.ready)
	}
	return nil
}

// signalChanged makes Changed ready.
func (s *Secrets) signalChanged() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
