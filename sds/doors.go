package sds

import (
	"sync/atomic"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// defaultUnder is Config.Under.
const defaultUnder = 1000

// doors bound what clients can make a node hold by the names that they send (SNI), where each costs it memory and us a certificate: names as the node asks for
// them on the aggregated service. Of a name, a stream may hold the spelling that is normal, what a chain of its own asks for, and one other; under a wildcard, so many. What is
// beyond is absent for the stream, until it has unsubscribed. The table's mutex guards them.
type doors struct {
	under     int
	streams   map[uint64]*doorway
	spellings atomic.Uint64
	wildcards atomic.Uint64
}

// doorway is one stream's. Most streams need none of the maps.
type doorway struct {
	spelled map[keysource.Name]*entry // in another spelling than the normal one
	under   map[keysource.Name]map[*entry]struct{}
	refused map[*entry]why
	entries int // in all of them
}

type why bool

const (
	bySpelling why = false
	byWildcard why = true
)

func newDoors(under int) doors { return doors{under: under, streams: map[uint64]*doorway{}} }

func (d *doors) of(node xds.Node) *doorway {
	w := d.streams[node.Stream]
	if w == nil {
		w = &doorway{spelled: map[keysource.Name]*entry{}, under: map[keysource.Name]map[*entry]struct{}{}, refused: map[*entry]why{}}
		d.streams[node.Stream] = w
	}
	return w
}

// enter reports whether the stream may ask for e at all.
func (d *doors) enter(node xds.Node, e *entry) bool {
	if node.Service != xds.ADS || e.name == "" || string(e.name) == e.asked || e.asked == keysource.ChainName(e.name) {
		return true
	}
	w := d.of(node)
	w.entries++
	if w.spelled[e.name] == nil {
		w.spelled[e.name] = e
		return true
	}
	w.refused[e] = bySpelling
	d.spellings.Add(1)
	return false
}

// shut reports whether e is absent for the stream: look-ups ask each time, since it may come under a wildcard, or get a certificate of its own.
func (d *doors) shut(node xds.Node, e *entry) bool {
	if node.Service != xds.ADS || e.asked == keysource.ChainName(e.name) { // a chain would never ask again, however many strangers leave
		return false
	}
	w := d.streams[node.Stream]
	if w != nil {
		if reason, ok := w.refused[e]; ok && (reason == bySpelling || e.wild && e.state == xds.Present) {
			return true
		}
		if !e.wild || e.state != xds.Present {
			d.release(node, w, e, byWildcard)
			return false
		}
		if _, ok := w.under[e.name.Wildcard()][e]; ok {
			return false
		}
	}
	if !e.wild || e.state != xds.Present {
		return false
	}
	w = d.of(node)
	w.entries++
	some := w.under[e.name.Wildcard()]
	if len(some) >= d.under {
		w.refused[e] = byWildcard
		d.wildcards.Add(1)
		return true
	}
	if some == nil {
		some = map[*entry]struct{}{}
		w.under[e.name.Wildcard()] = some
	}
	some[e] = struct{}{}
	return false
}

// leave forgets e, which the stream watches no more.
func (d *doors) leave(node xds.Node, e *entry) {
	w := d.streams[node.Stream]
	if w == nil {
		return
	}
	d.release(node, w, e, byWildcard)
	if w = d.streams[node.Stream]; w != nil {
		d.release(node, w, e, bySpelling)
	}
}

// release takes e out of what one of the two doors counts.
func (d *doors) release(node xds.Node, w *doorway, e *entry, of why) {
	switch reason, refused := w.refused[e]; {
	case refused && reason == of:
		delete(w.refused, e)
	case of == bySpelling && w.spelled[e.name] == e:
		delete(w.spelled, e.name)
	case of == byWildcard:
		wild := e.name.Wildcard()
		some := w.under[wild]
		if _, ok := some[e]; !ok {
			return
		}
		if delete(some, e); len(some) == 0 {
			delete(w.under, wild)
		}
	default:
		return
	}
	if w.entries--; w.entries == 0 {
		delete(d.streams, node.Stream)
	}
}

// Refused counts the names that were called absent since a stream held the name in another spelling, or too many under its wildcard.
func (t *Table) Refused() (spellings, wildcards uint64) {
	return t.doors.spellings.Load(), t.doors.wildcards.Load()
}
