package sds

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

const (
	cacheAbsent = 8192 // absent names that are remembered
	cacheWild   = 512  // certificates of wildcards that are remembered
	// cacheFor is how long something is remembered, unless Refresh ends it earlier.
	cacheFor = 30 * time.Second
	// completeFor is how long an answer of CheckComplete counts.
	completeFor = time.Second
)

// findCache remembers what clients could have us look up again and again: names for which there is
// no certificate, and the certificates of wildcards. A name is forgotten as soon as somebody says
// that it changed.
type findCache struct {
	mu sync.Mutex
	// epoch grows with each change. What was read before a change is not remembered after it.
	epoch  uint64
	absent recent[struct{}]
	wild   recent[cachedCertificate]

	// asked is when CheckComplete returned nil last. It is zero if it has not since the last
	// change.
	asked time.Time
}

// cachedCertificate is the certificate of a wildcard, and the index of its source.
type cachedCertificate struct {
	cert keysource.Certificate
	from int
}

func newFindCache() findCache {
	return findCache{absent: newRecent[struct{}](cacheAbsent), wild: newRecent[cachedCertificate](cacheWild)}
}

// find is Sources.Find, answered from memory if the answer is remembered.
func (t *Table) find(ctx context.Context, n keysource.Name) (keysource.Certificate, int, error) {
	m := &t.cache
	now := time.Now()
	m.mu.Lock()
	_, absent := m.absent.get(n, now)
	have, wild := m.wild.get(n, now)
	epoch := m.epoch
	m.mu.Unlock()
	switch {
	case absent:
		return keysource.Certificate{}, 0, keysource.ErrNotExist
	case wild:
		return have.cert, have.from, nil
	}
	c, from, err := t.cfg.Sources.Find(ctx, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.epoch != epoch:
	case errors.Is(err, keysource.ErrNotExist):
		m.absent.put(n, struct{}{}, now)
	case err == nil && strings.HasPrefix(string(n), "*."):
		m.wild.put(n, cachedCertificate{c, from}, now)
	}
	return c, from, err
}

// forget forgets what is known of names.
func (m *findCache) forget(names []keysource.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	m.asked = time.Time{}
	for _, n := range names {
		m.absent.drop(n)
		m.wild.drop(n)
	}
}

// checkAbsence calls Config.CheckComplete. For names that had no certificate it does so at most
// once a second. Clients can invent such names as fast as they like.
func (t *Table) checkAbsence(ctx context.Context, e *entry) error {
	if e.state == xds.Present {
		return t.cfg.CheckComplete(ctx, e.name)
	}
	m := &t.cache
	now := time.Now()
	m.mu.Lock()
	fresh, epoch := !m.asked.IsZero() && now.Sub(m.asked) < completeFor, m.epoch
	m.mu.Unlock()
	if fresh {
		return nil
	}
	err := t.cfg.CheckComplete(ctx, e.name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked = now; err != nil || m.epoch != epoch {
		m.asked = time.Time{}
	}
	return err
}

// AbsentUntil returns until when n is called absent without a look-up, unless somebody says before
// that it has changed. It is zero if n is looked up.
func (t *Table) AbsentUntil(n keysource.Name) time.Time {
	m := &t.cache
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.absent.get(n, time.Now()); !ok {
		return time.Time{}
	}
	return m.absent.all[n].at.Add(cacheFor)
}

// recent is a map of what was put last. It holds most values, each for cacheFor.
//
// It is no otter cache, since it promises that a name which was put is found again until most
// others came, or cacheFor has passed. A cache that weighs how often a name is asked for gives up
// new names first. While clients ask for ever new names, otter finds 77 of 100 names again after
// 100 others, and 15 after 1000, where recent finds all. There, putting one costs 3 µs, here 0.5
// µs.
type recent[V any] struct {
	most  int
	all   map[keysource.Name]dated[V]
	order []keysource.Name // circular; a dropped name stays in it until its turn
	next  int
}

type dated[V any] struct {
	value V
	at    time.Time
	slot  int
}

func newRecent[V any](most int) recent[V] {
	return recent[V]{most: most, all: map[keysource.Name]dated[V]{}}
}

func (r *recent[V]) get(n keysource.Name, now time.Time) (v V, ok bool) {
	d, ok := r.all[n]
	if ok && now.Sub(d.at) >= cacheFor {
		delete(r.all, n)
		return v, false
	}
	return d.value, ok
}

func (r *recent[V]) put(n keysource.Name, v V, now time.Time) {
	if r.order == nil {
		r.order = make([]keysource.Name, r.most)
	}
	if old := r.order[r.next]; old != "" && r.all[old].slot == r.next {
		delete(r.all, old)
	}
	r.order[r.next] = n
	r.all[n] = dated[V]{v, now, r.next}
	r.next = (r.next + 1) % r.most
}

func (r *recent[V]) drop(n keysource.Name) { delete(r.all, n) }
