package secrets

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Changed is ready when Rings or Certificates have changed since it was ready last. It is for one
// receiver.
func (s *Secrets) Changed() <-chan struct{} { return s.changed }

// Current reports whether there is a connection to the control plane, so that the rings are known
// to be current.
func (s *Secrets) Current() bool { return s.client.Live() }

// Rings returns the rings in use.
func (s *Secrets) Rings() map[string]keysource.Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]keysource.Ring, len(s.rings))
	for scope, r := range s.rings {
		all[scope] = r
	}
	return all
}

// Certificates returns the certificates that are held, by the names under which they are served.
func (s *Secrets) Certificates() map[keysource.Name]keysource.Certificate {
	found := make(map[keysource.Name]*certificate)
	for e := range s.held.Hottest() {
		found[e.Key] = e.Value
	}
	s.mu.Lock()
	for n, c := range s.pinned {
		if c != nil {
			found[n] = c
		}
	}
	s.mu.Unlock()
	all := make(map[keysource.Name]keysource.Certificate, len(found))
	for n, c := range found {
		if whole, err := c.whole(); err == nil {
			all[n] = whole
		}
	}
	return all
}

// Restore takes a certificate that was held before this process began. It is served at once. The
// control plane is told of it, and replaces it if it is not the current one. Restore must be
// called before Run. It skips a certificate that has expired.
func (s *Secrets) Restore(n keysource.Name, p keysource.PEM) error {
	c, err := s.shared.restore(p)
	if err != nil {
		return err
	}
	if !c.covers.Covers(n) {
		return fmt.Errorf("%w: it is for %.200q", keysource.ErrBadCertificate, c.covers.Names)
	}
	if time.Now().After(c.tls.Leaf.NotAfter) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.pinned[n]; ok {
		s.pinned[n] = c
	} else {
		s.held.Set(n, c)
	}
	s.client.Hold(string(n), c.version)
	s.client.Subscribe(string(n))
	return nil
}

// Resume brings a ring into use again that was in use before this process began. It does nothing
// if the control plane has given one for its scope.
func (s *Secrets) Resume(scope string, r keysource.Ring) error {
	s.client.Hold(keysource.RingName(scope), r.Version())
	return s.useRing(scope, r, false)
}
