package sds

import (
	"slices"

	"github.com/lockstep-tls/lockstep/xds"
)

// watchers are the mailboxes of the streams that want one name: most names have a few, some have the whole fleet.
type watchers struct {
	few  []*xds.Mailbox
	many map[*xds.Mailbox]struct{} // in use beyond scanBelow
}

const scanBelow = 8

func (w *watchers) add(box *xds.Mailbox) {
	if w.many == nil && len(w.few) < scanBelow {
		w.few = append(w.few, box)
		return
	}
	if w.many == nil {
		w.many = make(map[*xds.Mailbox]struct{}, 2*scanBelow)
		for _, b := range w.few {
			w.many[b] = struct{}{}
		}
		w.few = nil
	}
	w.many[box] = struct{}{}
}

func (w *watchers) remove(box *xds.Mailbox) {
	delete(w.many, box)
	if i := slices.Index(w.few, box); i >= 0 {
		w.few = slices.Delete(w.few, i, i+1)
	}
}

func (w *watchers) none() bool { return len(w.few)+len(w.many) == 0 }

func (w *watchers) wake(name string) {
	for _, b := range w.few {
		b.Put(name)
	}
	for b := range w.many {
		b.Put(name)
	}
}
