package daemon

import (
	"github.com/lockstep-tls/lockstep/events"
)

// heard wakes those whom an event concerns. They look for themselves what has happened.
func (d *Daemon) heard(e events.Event) {
	switch e.Kind {
	case events.Rotation:
		d.rolls.Poke(e.Scope)
	case events.Cert:
		d.certs.Wake()
		if d.trials != nil {
			d.trials.Wake() // the certificate may have been released
		}
	case events.Host:
		d.listeners.Wake()
	case events.Cured, events.Refused:
		if e.By != d.data.Replica {
			d.healer.Heard(e.Name, e.Kind == events.Cured)
		}
	}
}
