package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	kv "github.com/lockstep-tls/lockstep/store"
)

// restoreInto brings a backup back into a store that no lockstepd uses. It writes each change into
// the audit log before it makes it. With shared, only the replicas' own records say whether a
// lockstepd uses the store.
func restoreInto(
	ctx context.Context, s kv.Store, log *audit.Log, shared bool, text io.Reader, plan bool,
) (api.Restored, error) {
	r, err := backup.NewReader(text)
	if err != nil {
		return api.Restored{}, err
	}
	if shared && !plan {
		if err := unused(ctx, s); err != nil {
			return api.Restored{}, err
		}
	}
	who := offlineActor()
	head := sync.OnceValue(func() error {
		_, err := log.Append(ctx, audit.Entry{Actor: who, What: "restore",
			Why: "a backup of " + r.Made.Format(time.RFC3339) + ", without lockstepd"})
		return err
	})
	sum, err := backup.Restore{Store: s, By: who, Plan: plan, Before: func(ctx context.Context, c backup.Change) error {
		if strings.HasPrefix(c.Key, "audit/") {
			// the log itself comes first, and the lines about this restore go behind it
			return nil
		}
		if err := head(); err != nil {
			return err
		}
		_, err := log.Append(ctx, audit.Entry{Actor: who, What: "restored", Name: c.Key, Why: c.What})
		return err
	}}.Run(ctx, r)
	return sum.Shown(plan), err
}

// unused returns an error if a lockstepd may be using the store. It would not notice what changes.
func unused(ctx context.Context, s kv.Store) error {
	live, err := fleet.Living(ctx, s)
	if err != nil {
		return fmt.Errorf("which lockstepd use this store: %w", err)
	}
	if len(live) == 0 {
		return nil
	}
	var who []string
	for _, p := range live {
		who = append(who, fmt.Sprintf("%s (%s, heard of %s)", p.Replica, p.Admin, p.At.UTC().Format(time.RFC3339)))
	}
	return fail(exitRefused, "lockstepd uses this store: %s: restore through one of them (without --store), or "+
		"stop them all, and try again 30 s later", strings.Join(who, ", "))
}
