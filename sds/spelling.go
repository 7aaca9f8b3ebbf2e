package sds

import (
	"sync/atomic"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// spellings bounds how many spellings of a name a stream may hold, where a node asks for names on
// the aggregated service. Clients choose the spelling (SNI), and each one costs the node memory
// and us a certificate. A stream may hold the normal spelling, the name that a chain of its own
// asks for, and one other spelling. Any further spelling is absent for the stream, until the
// stream has unsubscribed from it and asks again.
//
// The server bounds how many names under one wildcard a stream holds ([xds.Resource.Group]). The
// table's mutex guards spellings.
type spellings struct {
	streams map[uint64]*streamSpellings
	refused atomic.Uint64
}

// streamSpellings are the spellings of one stream. Most streams need none.
type streamSpellings struct {
	held    map[keysource.Name]*entry // entries that have another spelling than the normal one
	refused map[*entry]struct{}
}

func newSpellings() spellings { return spellings{streams: map[uint64]*streamSpellings{}} }

// normal reports whether the node may ask for e in any case. A chain's own name must not be
// refused: a filter chain never asks again.
func normal(node xds.Node, e *entry) bool {
	return node.Service != xds.ADS || e.name == "" || string(e.name) == e.asked ||
		e.asked == keysource.ChainName(e.name)
}

// admit reports whether the stream may ask for e.
func (d *spellings) admit(node xds.Node, e *entry) bool {
	if normal(node, e) {
		return true
	}
	w := d.streams[node.Stream]
	if w == nil {
		w = &streamSpellings{held: map[keysource.Name]*entry{}, refused: map[*entry]struct{}{}}
		d.streams[node.Stream] = w
	}
	if w.held[e.name] == nil {
		w.held[e.name] = e
		return true
	}
	w.refused[e] = struct{}{}
	d.refused.Add(1)
	return false
}

// refuses reports whether e is absent for the stream.
func (d *spellings) refuses(node xds.Node, e *entry) bool {
	w := d.streams[node.Stream]
	if w == nil {
		return false
	}
	_, refused := w.refused[e]
	return refused
}

// leave forgets e, which the stream no longer watches.
func (d *spellings) leave(node xds.Node, e *entry) {
	w := d.streams[node.Stream]
	if w == nil {
		return
	}
	delete(w.refused, e)
	if w.held[e.name] == e {
		delete(w.held, e.name)
	}
	if len(w.held)+len(w.refused) == 0 {
		delete(d.streams, node.Stream)
	}
}

// SpellingsRefused counts the names that were called absent since a stream held another spelling.
func (t *Table) SpellingsRefused() uint64 { return t.spellings.refused.Load() }

// RefusedSpelling is a spelling that is absent for a stream, since the stream holds another one.
// There may be a certificate for it.
type RefusedSpelling struct {
	Asked string // the spelling that a client asked for
	Held  string // the spelling that the stream holds
}

// RefusedSpellings returns the spellings of the name asked that the stream may not add now: those
// that it was refused, and asked itself. Look-ups on the SDS service have no such limit.
func (t *Table) RefusedSpellings(stream uint64, asked string) (refused []RefusedSpelling) {
	n, err := keysource.CertificateName(asked)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.spellings.streams[stream]
	if w == nil {
		return nil
	}
	asks := false // the stream was refused this very spelling
	for e := range w.refused {
		if e.name == n {
			asks = asks || e.asked == asked
			refused = append(refused, RefusedSpelling{Asked: e.asked, Held: w.held[n].spelling()})
		}
	}
	if held := w.held[n]; !asks && string(n) != asked && asked != keysource.ChainName(n) && held != nil &&
		held.asked != asked {
		refused = append(refused, RefusedSpelling{Asked: asked, Held: held.asked})
	}
	return refused
}

// spelling returns how e was asked for. e is nil if the spelling that was held has gone since.
func (e *entry) spelling() string {
	if e == nil {
		return "another that has gone since"
	}
	return e.asked
}
