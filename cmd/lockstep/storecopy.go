package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	kv "github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/bolt"
)

const copyFor = 2 * time.Hour

func (a *app) storeCopyCommand() *cobra.Command {
	var stopped bool
	cmd := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy a store to another, while nodes stay connected",
		Long: "Copy a store, named by its URL or by lockstepd's data directory, to an empty one. The records stay " +
			"sealed with the same key.\n\n" +
			"While lockstepd uses FROM, changes are followed until few are left; then both stores are frozen: " +
			"lockstepd goes on serving, and refuses\n" +
			"changes, so that none is lost between the copy and its restart. Restart each lockstepd on TO, then " +
			"thaw: lockstep store thaw.\n" +
			"What was begun and interrupted can be run again; to give it up, thaw FROM.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.within(cmd, copyFor)
			defer cancel()
			return a.copyStore(ctx, args[0], args[1], stopped)
		},
	}
	cmd.Flags().BoolVar(&stopped, "stopped", false,
		"every lockstepd that uses FROM is stopped: do not freeze (a data directory shows it by itself)")
	return cmd
}

// copied is what store copy prints.
type copied struct {
	From    string   `json:"from"`
	To      string   `json:"to"`
	Records int      `json:"records"`
	Frozen  bool     `json:"frozen"`
	Next    []string `json:"next"` // Next is what to do now.
}

func (a *app) copyStore(ctx context.Context, from, to string, stopped bool) error {
	out := copied{From: settings.Redact(from), To: settings.Redact(to)}
	c := stores.Copy{Name: out.From}
	client, opened, err := a.copyFrom(ctx, from, stopped)
	if err != nil {
		return err
	}
	if opened != nil {
		defer opened.Close()
		c.From = stores.Reader{Store: opened}
	} else {
		out.Frozen = true
		c.From = remote{client}
		c.Freeze = func(ctx context.Context) error {
			return client.Freeze(ctx, api.FreezeRequest{By: me(), Why: "it was copied to " + out.To +
				": restart each lockstepd on that one"})
		}
	}
	dest, err := stores.Open(ctx, to)
	if err != nil {
		return err
	}
	defer dest.Close()
	c.To = dest
	p := newProgress(a.err)
	defer p.clear()
	c.Tell = func(s stores.Progress) {
		p.line(s.Step, fmt.Sprintf("pass %d, %d records written", s.Pass, s.Written))
	}
	if !stores.IsURL(from) && !stores.IsURL(to) {
		c.Finish = func() error { return copyFiles(from, to) }
	}
	if out.Records, err = c.Run(ctx); err != nil {
		return err
	}
	out.Next = nextSteps(from, to, out.Frozen)
	return show(a, out, func(w io.Writer, out copied) {
		row(w, fmt.Sprintf("%d records of %s are in %s, and compared", out.Records, out.From, out.To))
		list(w, "next", out.Next)
	})
}

// copyFrom returns the lockstepd that uses the store, or else the store itself.
func (a *app) copyFrom(ctx context.Context, from string, stopped bool) (*api.Client, stores.Store, error) {
	if stores.IsURL(from) && !stopped {
		c, err := a.client()
		if err != nil {
			return nil, nil, fmt.Errorf("a lockstepd that uses %s is needed, to freeze it (--stopped if none runs): %w",
				settings.Redact(from), err)
		}
		st, err := c.Status(ctx)
		if err == nil && settings.Redact(st.Store) != settings.Redact(from) {
			err = usage("that lockstepd uses the store %s, not %s", settings.Redact(st.Store), settings.Redact(from))
		}
		return c, nil, err
	}
	if !stores.IsURL(from) && !stores.HasEmbedded(from) {
		return nil, nil, fail(exitNotFound, "%s is no data directory with an embedded store", from)
	}
	s, err := stores.Open(ctx, from)
	if errors.Is(err, bolt.ErrInUse) {
		of := *a
		of.dataDir, of.server, of.tokenFile = from, "", ""
		c, err := of.client()
		return c, nil, err
	}
	return nil, s, err
}

// remote is the store of a running lockstepd.
type remote struct{ *api.Client }

func (r remote) Records(ctx context.Context, since kv.Rev, f func(key string, val []byte) error) (kv.Rev, error) {
	head, err := r.StoreRecords(ctx, uint64(since), f)
	return kv.Rev(head), err
}

// copyFiles copies the files that belong to the store or to the replica to another data directory:
// the sealing key, the name, the tokens and the marks. It replaces files that an interrupted copy
// left, but never a sealing key by another one.
func copyFiles(from, to string) error {
	for _, name := range []string{stores.KeyFile, "replica", tokenFile, "nats.token", "generations.json", "audit.mark",
		"policy.mark"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, name)
		switch have, err := os.ReadFile(path); {
		case err == nil && bytes.Equal(have, b):
			continue
		case err == nil && name == stores.KeyFile:
			return fail(
				exitRefused, "%s is another sealing key than that of %s: move it away, if nothing else needs it, "+
					"and run the copy again", path, from)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := atomicfile.Write(path, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func nextSteps(from, to string, frozen bool) (steps []string) {
	with, thaw := "--store "+settings.Redact(to), "lockstep store thaw"
	if !stores.IsURL(to) {
		with, thaw = "--data-dir "+to, "lockstep --data-dir "+to+" store thaw"
		if stores.IsURL(from) {
			with = "--store embedded " + with + " --kek KEY (the same as before)"
		}
	}
	steps = append(steps, "restart each lockstepd, one after the other, with "+with+", its other flags as before")
	if frozen {
		steps = append(steps, "then let changes happen again: "+thaw)
	}
	return steps
}
