package observer

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
)

// absences logs which secrets nodes ask for that lockstepd does not have, and never will. Hosts
// without a certificate are not among them, since clients choose which hosts nodes ask for.
type absences struct {
	state func(node xds.Node, name string) xds.State
	log   *slog.Logger

	mu      sync.Mutex
	said    map[string]bool // said has the names of which a line was written, or will be.
	limited rate.Sometimes
}

const (
	// absentAfter is how long a name may take to be looked up in the store.
	absentAfter = 5 * time.Second
	// maxAbsent bounds the names that are logged in a process. Each has one line.
	maxAbsent = 100
)

func newAbsences(t *sds.Table, log *slog.Logger) *absences {
	return &absences{
		state: func(node xds.Node, name string) xds.State {
			_, state := t.Lookup(node, name)
			return state
		},
		log: log, said: map[string]bool{}, limited: rate.Sometimes{First: 1, Interval: time.Hour},
	}
}

// asked takes note of a name that a node asks for. The goroutine of the stream calls it.
func (a *absences) asked(e xds.Event) {
	if e.Kind != xds.Asked || e.Type != sds.TypeURL {
		return
	}
	why := sds.NotOurs(e.Name)
	if why == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.said[e.Name] {
		return
	}
	if len(a.said) >= maxAbsent {
		a.limited.Do(func() {
			a.log.Warn("nodes ask for still more secrets that lockstepd does not have; they are not logged",
				"node", e.Node.ID, "name", e.Name, "logged", maxAbsent)
		})
		return
	}
	a.said[e.Name] = true
	time.AfterFunc(absentAfter, func() { a.write(e, why) })
}

// write writes the line of a name if there is no such secret.
func (a *absences) write(e xds.Event, why string) {
	if a.state(e.Node, e.Name) == xds.Absent {
		a.log.Warn("a node asks for a secret that lockstepd does not have", "node", e.Node.ID, "name", e.Name,
			"why", why, "see", "lockstep nodes "+e.Node.ID)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.said, e.Name)
}
