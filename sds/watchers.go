package sds

import (
	"iter"

	"github.com/lockstep-tls/lockstep/xds"
)

// watchers are the mailboxes of the streams that want one name. Most names have one, some have the
// whole fleet.
type watchers struct {
	one  *xds.Mailbox
	many map[*xds.Mailbox]struct{} // used if there is more than one
}

func (w *watchers) add(mailbox *xds.Mailbox) {
	switch {
	case w.many != nil:
		w.many[mailbox] = struct{}{}
	case w.one == nil || w.one == mailbox:
		w.one = mailbox
	default:
		w.many = map[*xds.Mailbox]struct{}{w.one: {}, mailbox: {}}
		w.one = nil
	}
}

func (w *watchers) remove(mailbox *xds.Mailbox) {
	delete(w.many, mailbox)
	if w.one == mailbox {
		w.one = nil
	}
}

func (w *watchers) none() bool { return w.one == nil && len(w.many) == 0 }

func (w *watchers) wake(name string) {
	for b := range w.all() {
		b.Put(name)
	}
}

func (w *watchers) all() iter.Seq[*xds.Mailbox] {
	return func(yield func(*xds.Mailbox) bool) {
		if w.one != nil && !yield(w.one) {
			return
		}
		for b := range w.many {
			if !yield(b) {
				return
			}
		}
	}
}
