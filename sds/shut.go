package sds

import (
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// Shut is a door that makes a name absent for a stream, certificate or not.
type Shut struct {
	Asked string // how a client spelt it
	// Held is the other spelling that the stream holds; "": the name comes under a wildcard, under which the stream holds Names, and no more may be.
	Held  string
	Names int
}

// Shut says which doors are shut now for a stream, for what a client asks for: in any spelling that the stream has been refused, and as asked is spelt. One
// of the wildcard counts for a name without a certificate of its own alone. Lookups on the SDS service pass no door.
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
	wild := n.Wildcard()
	full := len(w.under[wild]) >= t.doors.under
	asks := false // it has asked as asked is spelt
	for e, by := range w.refused {
		if e.name != n {
			continue
		}
		asks = asks || e.asked == asked
		if by == bySpelling {
			shut = append(shut, Shut{Asked: e.asked, Held: w.spelled[n].spelling()})
		} else if e.wild && e.state == xds.Present {
			shut = append(shut, Shut{Asked: e.asked, Names: len(w.under[wild])})
		}
	}
	held := w.spelled[n]
	switch e := t.certs[asked]; {
	case asks:
	case string(n) != asked && asked != keysource.ChainName(n) && held != nil && held.asked != asked:
		shut = append(shut, Shut{Asked: asked, Held: held.asked})
	case full && wild != "" && asked != keysource.ChainName(n) && (e == nil || !in(w.under[wild], e) && (e.wild || e.state != xds.Present)):
		shut = append(shut, Shut{Asked: asked, Names: len(w.under[wild])})
	}
	return shut
}

func in(some map[*entry]struct{}, e *entry) bool { _, ok := some[e]; return ok }

// spelling is how it was asked for; of none: the one that was held has gone since.
func (e *entry) spelling() string {
	if e == nil {
		return "another that has gone since"
	}
	return e.asked
}

// Under is how many names under one wildcard a stream may hold at once.
func (t *Table) Under() int { return t.doors.under }

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
