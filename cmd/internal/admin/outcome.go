package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/events"
)

// written is a line of the audit log that says what a request is about to do.
type written struct {
	entry audit.Entry
	ref   string
}

// Record writes what the request of ctx is about to do into log. Its error refuses the request. If
// the request fails afterwards, another line says so.
func Record(ctx context.Context, log *audit.Log, e audit.Entry) error {
	e.Actor = Actor(ctx)
	head, err := log.Append(ctx, e)
	if err == nil {
		Recorded(ctx, e, head)
	}
	return err
}

// Recorded notes that the request of ctx wrote a line; see [Record].
func Recorded(ctx context.Context, e audit.Entry, head audit.Head) {
	if c := callerIn(ctx); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.lines++; c.lines == 1 { // a restore writes a line for each record
			c.first = written{e, head.Ref()}
		}
	}
}

// writeDown writes what the request is about to do into the audit log. Its error refuses the
// request.
func (a *admin) writeDown(ctx context.Context, e audit.Entry) error {
	return Record(ctx, a.cfg.Audit, e)
}

// settleWithin bounds the line that says that an action failed.
const settleWithin = 2 * time.Second

// settle writes into the audit log that what the request wrote there was refused or has failed. If
// it wrote several lines, its first one stands for the whole, of which a part may have been done.
// It reports whether there was one.
func (a *admin) settle(ctx context.Context, failure error) bool {
	c := callerIn(ctx)
	if c == nil || failure == nil {
		return false
	}
	c.mu.Lock()
	l, lines := c.first, c.lines
	c.lines = 0
	c.mu.Unlock()
	if lines == 0 {
		return false
	}
	suffix := audit.Failed
	if code, _ := codeOf(failure); lines == 1 && certain[code] {
		suffix = audit.Refused
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	e := audit.Entry{
		Actor: l.entry.Actor, What: l.entry.What + suffix, Scope: l.entry.Scope, Name: l.entry.Name,
		Key: l.entry.Key, KeyID: l.entry.KeyID, Why: failure.Error(), After: l.ref,
	}
	if _, err := a.cfg.Audit.Append(ctx, e); err != nil {
		a.cfg.Log.Error("that an action was not done cannot be written into the audit log", "what", e.What,
			"why", e.Why, "err", err)
	}
	a.tell(l, e.What, e.Why)
	return true
}

// done tells of an action that has succeeded.
func (a *admin) done(ctx context.Context) {
	if c := callerIn(ctx); c != nil {
		c.mu.Lock()
		l, lines := c.first, c.lines
		c.mu.Unlock()
		if lines > 0 {
			a.tell(l, l.entry.What, l.entry.Why)
		}
	}
}

// untold are the lines of the audit log that are no event of another kind.
var untold = []string{
	"token-new", "token-revoked", "kek-rotate", "kek-retire", "store-frozen", "store-thawed", "loss-confirmed",
	"backup", "restore",
}

// tell passes on as an event what stands in the audit log and is told in no other way.
func (a *admin) tell(l written, what, why string) {
	if !slices.Contains(untold, l.entry.What) {
		return
	}
	e := events.Event{
		Kind: events.Operator, Name: cmp.Or(l.entry.Name, what), By: l.entry.Actor, Why: why, Audit: l.ref, Text: what,
	}
	if l.entry.Name != "" {
		e.Text += " " + l.entry.Name
	}
	e.Text += " by " + l.entry.Actor
	if why != "" {
		e.Text += ": " + why
	}
	a.cfg.Events.Publish(e)
}

// certain are the answers with which nothing was done. Of others that is not known: the client may
// have gone, or the store.
var certain = map[int]bool{
	http.StatusBadRequest: true, http.StatusForbidden: true, http.StatusNotFound: true, http.StatusConflict: true,
	http.StatusUnprocessableEntity: true, http.StatusServiceUnavailable: true,
}
