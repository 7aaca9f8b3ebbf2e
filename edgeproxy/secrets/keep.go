package secrets

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Changed is ready when Rings or Certificates have changed since it was last. It is for one receiver.
func (s *Secrets) Changed() <-chan struct{} { return s.changed }

// Current reports whether the control plane is there, so that the rings are known to be the current ones.
func (s *Secrets) Current() bool { return s.client.Live() }

// Rings returns those in use.
func (s *Secrets) Rings() map[string]keysource.Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]keysource.Ring, len(s.rings))
	for scope, r := range s.rings {
		all[scope] = r
	}
	return all
}

// Certificates returns those that are held, by the names they are served under.
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
		key, err := x509.MarshalPKCS8PrivateKey(c.tls.PrivateKey)
		if err != nil {
			continue // it was parsed from that
		}
		out := c.covers
		out.PEM = keysource.DER{Chain: c.tls.Certificate, Key: key}.PEM()
		all[n] = out
	}
	return all
}

// Restore takes a certificate that was held before this process began. It is served at once, and the control plane, which is told of it, replaces it if it is not
// the current one. Call it before Run. An expired one is passed over.
func (s *Secrets) Restore(n keysource.Name, p keysource.PEM) error {
	c, err := s.equals.restore(p)
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

// Resume takes a ring that was in use before this process began into use, unless the control plane has given one for its scope.
func (s *Secrets) Resume(scope string, r keysource.Ring) error {
	s.client.Hold(keysource.RingName(scope), r.Version())
	return s.take(scope, r, false)
}
