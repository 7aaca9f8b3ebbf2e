package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/lockstep-tls/lockstep/audit"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

// RolloutEntries are what the audit log says of a change of a rollout.
func RolloutEntries(scope string, c replicas.Change, log *slog.Logger) (entries []audit.Entry) {
	on, err := audit.ParseHead(c.After)
	if err != nil && c.After != "" {
		log.Warn("the rollout names no line of the audit log as its last change", "scope", scope, "err", err)
	}
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
	return entries
}

// witnesses are the lines that the rollouts in the store name as their last change.
func (a *admin) witnesses(ctx context.Context) (out []audit.Witness, err error) {
	for _, scope := range a.cfg.Rollouts.Scopes() {
		s, err := a.cfg.Rollouts.StoredAudit(ctx, scope)
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
