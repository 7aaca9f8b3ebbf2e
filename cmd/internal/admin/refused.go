package admin

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
)

// stranger is who sent a request with nothing that proves him. All of them count as one, so that
// they cannot fill the audit log.
const stranger = "somebody unknown"

// failed records what becomes of a request that has failed. What it wrote into the audit log gets
// another line there. What was refused before that gets one, too.
func (a *admin) failed(r *http.Request, err error) {
	written := a.settle(r.Context(), err)
	c := callerIn(r.Context())
	if written && slices.Contains(untold, c.first.entry.What) {
		return // settle has told of it
	}
	if code, _ := codeOf(err); c != nil && c.changing && refusing[code] {
		a.recordRefusal(r, c, err, written)
	}
}

// refusing are the answers that refuse an action, rather than find a mistake in what was typed.
var refusing = map[int]bool{
	http.StatusForbidden: true, http.StatusConflict: true, http.StatusUnprocessableEntity: true,
	http.StatusServiceUnavailable: true,
}

// recordRefusal records that an action was refused which would have changed something. The caller
// is nil if nobody knows who sent it. If the audit log has its line already, only the event is new.
// Of many by one caller some have no line, and are counted.
func (a *admin) recordRefusal(r *http.Request, c *caller, why error, written bool) {
	who, actor := stranger, stranger
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		actor += " at " + host
	}
	if c != nil {
		who, actor = c.name, c.String()
	}
	what := cleaned(r.Method + " " + r.URL.Path)
	if !written {
		kind := "refused"
		if code, _ := codeOf(why); code == http.StatusForbidden {
			kind = "forbidden"
		}
		a.cfg.Audit.Refused(who, audit.Entry{
			Actor: actor, What: kind, Scope: r.PathValue("scope"), Name: what, Why: why.Error(),
		})
	}
	a.happened(recorder.Entry{Same: who, Level: slog.LevelWarn, Event: events.Event{
		Kind: events.ActionRefused, Scope: r.PathValue("scope"), Name: what, By: actor,
		Text: fmt.Sprintf("%s was refused to %s: %v", what, actor, why),
	}})
}

// happened passes on what happened.
func (a *admin) happened(e recorder.Entry) {
	if a.cfg.Record != nil {
		a.cfg.Record(e)
	}
}

// did records that somebody did something by the request. Text says what, without who.
func (a *admin) did(r *http.Request, kind events.Kind, name, text string) {
	who := Actor(r.Context())
	a.happened(recorder.Entry{Event: events.Event{Kind: kind, Name: name, By: who, Text: text + " by " + who}})
}
