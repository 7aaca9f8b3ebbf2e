package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/audit/storesink"
	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
)

func (d *Daemon) openAudit() (err error) {
	d.audit, err = audit.New(audit.Config{
		Records: storesink.New(d.store), Replica: d.data.Replica, File: d.cfg.AuditFile, Syslog: d.cfg.AuditSyslog,
		MarkFile: d.data.File("audit.mark"), Changed: d.auditChanged, Log: d.log,
	})
	return err
}

// auditChanged records that a sink of the audit log is down, or up again; see
// [audit.Config].Changed.
func (d *Daemon) auditChanged(sink string, down error, lacked audit.Gap) {
	e := recorder.Entry{Logged: true, Event: events.Event{
		Kind: events.AuditBack, Name: sink, Text: fmt.Sprintf("the audit log can be written to the %s again", sink),
	}}
	if words := lacked.Words(); words != "" {
		e.Text += "; " + words
	}
	if down != nil {
		e.Kind, e.Level = events.AuditDown, slog.LevelWarn
		e.Text = fmt.Sprintf("the audit log cannot be written to the %s: %v", sink, down)
	}
	d.rec.Record(e)
}

// recordRollout is what [fleet.Config].Record calls.
func (d *Daemon) recordRollout(ctx context.Context, scope string, c fleet.Change) (string, error) {
	on, err := audit.ParseHead(c.After)
	if err != nil && c.After != "" {
		d.log.Warn("the rollout names no line of the audit log as its last change", "scope", scope, "err", err)
	}
	var entries []audit.Entry
	for i, l := range c.Lines {
		e := audit.Entry{
			At: l.At, Actor: l.By, What: string(l.What), Scope: scope, Key: c.Keys[i],
			Generation: l.Generation, Rotation: l.Rotation, Nodes: l.Nodes, WaitedFor: l.WaitedFor,
			LeftBehind: l.LeftBehind, Took: l.Took, Why: l.Why, After: on.Ref(),
		}
		if e.Key == "" {
			e.Key = l.Key // the key has left the ring
		}
		e.KeyID = l.Key
		if e.Actor == "" {
			e.Actor = "lockstepd"
		}
		if i == 0 {
			e.Burnt = c.Burnt
		}
		entries = append(entries, e)
	}
	head, err := d.audit.Append(ctx, entries...)
	return head.String(), err
}

// recordCert is what [catalog.Config].Before calls.
func (d *Daemon) recordCert(ctx context.Context, n keysource.Name, version string) error {
	e := audit.Entry{What: "cert-put", Name: string(n), Key: version}
	if version == "" {
		e.What = "cert-removed"
	}
	return admin.Record(ctx, d.audit, e)
}

// recordCerts is what [catalog.Config].BeforeAll calls.
func (d *Daemon) recordCerts(ctx context.Context, news []catalog.Stored) error {
	items := make([]audit.Item, len(news))
	for i, n := range news {
		items[i] = audit.Item{Name: string(n.Name), Key: n.Version}
	}
	e := audit.Entry{Actor: admin.Actor(ctx), What: "certs-put"}
	head, err := d.audit.AppendMany(ctx, e, items)
	if err == nil {
		admin.Recorded(ctx, e, head)
	}
	return err
}

// witnesses are the lines that the rollouts in the store name as their last change.
func (d *Daemon) witnesses(ctx context.Context) (out []audit.Witness, err error) {
	for _, scope := range d.rolls.Scopes() {
		s, err := d.rolls.StoredAudit(ctx, scope)
		if err != nil {
			return nil, err
		}
		if s == "" {
			continue
		}
		h, err := audit.ParseHead(s)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the rollout of scope %s", scope), err)
		}
		out = append(out, audit.Witness{Who: "the rollout of scope " + scope, Scope: scope, Head: h})
	}
	return out, nil
}

// recordHost is what [eager.Config].Before calls.
func (d *Daemon) recordHost(ctx context.Context, n keysource.Name, pinned bool) error {
	e := audit.Entry{What: "host-pinned", Name: string(n)}
	if !pinned {
		e.What = "host-unpinned"
	}
	return admin.Record(ctx, d.audit, e)
}
