package sds

import (
	"sync/atomic"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// doors bound how many spellings of a name clients can make a node hold (SNI), each of which costs it memory and us a certificate, where a node asks for names
// on the aggregated service. A stream may hold the spelling that is normal, what a chain of its own asks for, and one other; what is
// beyond is absent for the stream, until it has unsubscribed. How many names under one wildcard it may hold is the server's to bound ([xds.Resource.Group]).
// The table's mutex guards them.
type doors struct {
	streams map[uint64]*doorway
	refused atomic.Uint64
}

// doorway is one stream's. Most streams need none.
type doorway struct {
	spelled map[keysource.Name]*entry // in another spelling than the normal one
	refused map[*entry]struct{}
}

func newDoors() doors { return doors{streams: map[uint64]*doorway{}} }

// normal reports whether the node may ask for e in any case. A chain would never ask again, however many strangers leave.
func normal(node xds.Node, e *entry) bool {
	return node.Service != xds.ADS || e.name == "" || string(e.name) == e.asked || e.asked == keysource.ChainName(e.name)
}

// enter reports whether the stream may ask for e.
func (d *doors) enter(node xds.Node, e *entry) bool {
	if normal(node, e) {
		return true
	}
	w := d.streams[node.Stream]
	if w == nil {
		w = &doorway{spelled: map[keysource.Name]*entry{}, refused: map[*entry]struct{}{}}
		d.streams[node.Stream] = w
	}
	if w.spelled[e.name] == nil {
		w.spelled[e.name] = e
		return true
	}
	w.refused[e] = struct{}{}
	d.refused.Add(1)
	return false
}

// shut reports whether e is absent for the stream.
func (d *doors) shut(node xds.Node, e *entry) bool {
	w := d.streams[node.Stream]
	if w == nil {
		return false
	}
	_, refused := w.refused[e]
	return refused
}

// leave forgets e, which the stream watches no more.
func (d *doors) leave(node xds.Node, e *entry) {
	w := d.streams[node.Stream]
	if w == nil {
		return
	}
	delete(w.refused, e)
	if w.spelled[e.name] == e {
		delete(w.spelled, e.name)
	}
	if len(w.spelled)+len(w.refused) == 0 {
		delete(d.streams, node.Stream)
	}
}

// Refused counts the names that were called absent since a stream held the name in another spelling.
func (t *Table) Refused() uint64 { return t.doors.refused.Load() }
