package sds

import (
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Shut is a spelling that is absent for a stream, certificate or not, since it holds another one.
type Shut struct {
	Asked string // how a client spelt it
	Held  string // the other spelling
}

// Shut says which spellings are shut now for a stream, of what a client asks for: those that the stream has been refused, and as asked is spelt. Lookups on the SDS
// service pass no door.
func (t *Table) Shut(stream uint64, asked string) (shut []Shut) {
	n, err := keysource.CertificateName(asked)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.doors.streams[stream]
	if w == nil {
		return nil
	}
	asks := false // it has asked as asked is spelt
	for e := range w.refused {
		if e.name == n {
			asks = asks || e.asked == asked
			shut = append(shut, Shut{Asked: e.asked, Held: w.spelled[n].spelling()})
		}
	}
	if held := w.spelled[n]; !asks && string(n) != asked && asked != keysource.ChainName(n) && held != nil && held.asked != asked {
		shut = append(shut, Shut{Asked: asked, Held: held.asked})
	}
	return shut
}

// spelling is how it was asked for; of none: the one that was held has gone since.
func (e *entry) spelling() string {
	if e == nil {
		return "another that has gone since"
	}
	return e.asked
}

// Remembered is until when n is called absent without a look, unless somebody says before that it has changed; zero: it is looked up.
func (t *Table) Remembered(n keysource.Name) time.Time {
	m := &t.memo
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.absent.get(n, time.Now()); !ok {
		return time.Time{}
	}
	return m.absent.all[n].at.Add(memoFor)
}
