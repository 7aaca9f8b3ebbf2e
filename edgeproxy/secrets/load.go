package secrets

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/lockstep-tls/lockstep/keysource"
)

// load is a name for which clients wait.
type load struct {
	done    chan struct{} // closed when cert or err is set
	cert    *certificate
	err     error
	waiting int // guarded by Secrets.mu
}

// load asks for n and waits. The last client that gives up ends the subscription, so that names
// without an answer do not pile up.
func (s *Secrets) load(ctx context.Context, n keysource.Name) (*tls.Certificate, error) {
	s.mu.Lock()
	l := s.loads[n]
	if l == nil {
		if len(s.loads) >= maxLoads {
			s.mu.Unlock()
			return nil, fmt.Errorf("%w: %s is refused", ErrBusy, n)
		}
		l = &load{done: make(chan struct{})}
		s.loads[n] = l
		s.client.Subscribe(string(n))
	}
	l.waiting++
	s.mu.Unlock()

	timeout := time.NewTimer(s.cfg.Wait)
	defer timeout.Stop()
	select {
	case <-l.done:
	case <-timeout.C:
	case <-ctx.Done():
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	l.waiting--
	switch {
	case l.err != nil:
		return nil, l.err
	case l.cert != nil:
		return l.cert.tls, nil
	}
	if l.waiting == 0 && s.loads[n] == l {
		delete(s.loads, n)
		s.drop(n)
	}
	return nil, fmt.Errorf("%w about %s", ErrTimeout, n)
}

// finish gives the outcome for n to those who wait. The caller holds mu.
func (s *Secrets) finish(n keysource.Name, c *certificate, err error) {
	if l := s.loads[n]; l != nil {
		l.cert, l.err = c, err
		delete(s.loads, n)
		close(l.done)
	}
}

// drop ends the subscription of n unless it is needed. The caller holds mu.
func (s *Secrets) drop(n keysource.Name) {
	if _, pinned := s.pinned[n]; pinned || s.loads[n] != nil {
		return
	}
	if _, held := s.held.GetEntryQuietly(n); !held {
		s.client.Unsubscribe(string(n))
	}
}

// evicted is called by the cache, some time after it has evicted an entry.
func (s *Secrets) evicted(e otter.DeletionEvent[keysource.Name, *certificate]) {
	if !e.WasEvicted() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(e.Key)
}
