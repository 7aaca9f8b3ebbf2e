package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/audit/storesink"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func (a *app) auditMendCommand() *cobra.Command {
	var o offline
	cmd := &cobra.Command{
		Use:   "mend",
		Short: "Let lines follow again where the newest ones in the store were damaged; the break stays named",
		Long: "Where the newest lines of the audit log in the store (audit/head), or its key, are damaged, no " +
			"line can follow, and nothing may be changed. If no\n" +
			"backup has them, mend begins them anew, in a running lockstepd or in the data directory of one that " +
			"is stopped: lines that are as they were\n" +
			"written stay, and a line tells of the break. lockstep audit verify goes on to find that lines are " +
			"missing there.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.within(cmd, usual)
			defer cancel()
			m, err := a.mendAudit(ctx, o)
			if errors.Is(err, audit.ErrSound) {
				return fail(exitRefused, "%w", err)
			}
			if err != nil {
				return err
			}
			return show(a, m, func(w io.Writer, m api.AuditMended) {
				row(w, "the audit log goes on with line "+m.Head)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func (a *app) mendAudit(ctx context.Context, o offline) (m api.AuditMended, err error) {
	v, err := a.openOffline(ctx, o, false)
	if err != nil {
		return m, err
	}
	if v == nil {
		c, err := a.client()
		if err != nil {
			return m, err
		}
		return c.MendAudit(ctx, api.MendRequest{By: me()})
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	c := audit.Config{Records: storesink.New(v), Replica: "offline-mend", Log: slog.New(slog.DiscardHandler)}
	if o.store == "" { // the lockstepd that is stopped left its mark there
		c.MarkFile = filepath.Join(a.dataDir, "audit.mark")
	}
	log, err := audit.New(c)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	head, err := log.Mend(ctx, offlineActor(), nil)
	m.Head = head.String()
	return m, err
}
