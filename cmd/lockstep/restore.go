package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/audit/storesink"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
)

func (a *app) restoreCommand() *cobra.Command {
	var (
		identity, words string
		plan            bool
		o               offline
	)
	cmd := &cobra.Command{
		Use:   "restore FILE --identity FILE | --passphrase-file FILE",
		Short: "Bring a backup back, into a running lockstepd or into the data directory of one that is stopped",
		Long: "Bring a backup back. Its certificates replace those in the store, and nothing is removed. Ticket " +
			"keys come back behind those in use, and only\n" +
			"decrypt; burnt ones never do, and generations never go back. The whole file is checked before " +
			"anything is written.\n" +
			"With --plan, only say what would change.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := a.identities(identity, words)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			ctx, cancel := a.within(cmd, backupFor)
			defer cancel()
			put, done, err := a.restorer(ctx, o)
			if err != nil {
				return err
			}
			r, err := restoreFile(f, ids, put, plan)
			if err = errors.Join(err, done()); err != nil {
				return err
			}
			return show(a, r, restoredTable)
		},
	}
	f := cmd.Flags()
	f.StringVar(&identity, "identity", "", "`file` with the secret key that opens it (age-keygen)")
	f.StringVar(&words, "passphrase-file", "", "`file` whose first line is the passphrase that opens it")
	f.BoolVar(&plan, "plan", false, "say what would change, and change nothing")
	cmd.MarkFlagsMutuallyExclusive("identity", "passphrase-file")
	cmd.MarkFlagsOneRequired("identity", "passphrase-file")
	o.flags(cmd)
	f.BoolVar(&o.kekNew, "kek-new", false, "make the file of --kek if it is missing while the store is empty")
	return cmd
}

func (a *app) identities(identity, words string) ([]age.Identity, error) {
	if words != "" {
		p, err := a.passphrase(words)
		if err != nil {
			return nil, err
		}
		return backup.Unlock(p)
	}
	f, err := os.Open(identity)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a.warnIfOpen(f, "the secret key")
	ids, err := backup.Identities(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", identity, err)
	}
	return ids, nil
}

// restorer takes the inner text of a backup.
type restorer func(text io.Reader, plan bool) (api.Restored, error)

func (a *app) restorer(ctx context.Context, o offline) (put restorer, done func() error, err error) {
	v, err := a.openOffline(ctx, o, true)
	if err != nil {
		return nil, nil, err
	}
	if v != nil {
		log, err := audit.New(audit.Config{
			Records: storesink.New(v), Replica: "offline-restore", Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return nil, nil, errors.Join(err, v.Close())
		}
		return func(text io.Reader, plan bool) (api.Restored, error) {
			return restoreInto(ctx, v, log, stores.IsURL(o.store), text, plan)
		}, func() error { return errors.Join(log.Close(), v.Close()) }, nil
	}
	c, err := a.client()
	if err != nil {
		return nil, nil, err
	}
	return func(text io.Reader, plan bool) (api.Restored, error) {
		return c.Restore(ctx, text, plan, me())
	}, func() error { return nil }, nil
}

// restoreFile reads the file twice, the first time to its end for a plan. So a fault of the file is
// found before anything is written.
func restoreFile(f *os.File, ids []age.Identity, put restorer, plan bool) (r api.Restored, err error) {
	for _, plan := range []bool{true, plan} {
		if r.Plan && plan {
			break // the plan was all that was asked for
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return r, fmt.Errorf("%s is read twice, and cannot be: %w", f.Name(), err)
		}
		text, err := backup.Decrypt(f, ids)
		if err != nil {
			return r, fmt.Errorf("%s: %w", f.Name(), err)
		}
		noted := &noting{r: text}
		if r, err = put(noted, plan); err != nil {
			if noted.err != nil { // the other end gave up for this reason
				err = noted.err
			}
			if !plan {
				err = fmt.Errorf("%w; what was written until then stays, and it can be run again", err)
			}
			return r, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return r, nil
}

// noting remembers the error of a read.
type noting struct {
	r   io.Reader
	err error
}

func (n *noting) Read(b []byte) (int, error) {
	c, err := n.r.Read(b)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return c, err
}

func restoredTable(w io.Writer, r api.Restored) {
	what := "restored"
	if r.Plan {
		what = "plan, nothing was changed"
	}
	counts := []string{}
	for _, k := range slices.Sorted(maps.Keys(r.Counts)) {
		counts = append(counts, fmt.Sprintf("%d %s", r.Counts[k], k))
	}
	row(w, fmt.Sprintf("%s: the backup of %s: %s", what, r.Made.UTC().Format(time.RFC3339), strings.Join(counts, ", ")))
	for _, d := range r.Details {
		row(w, "  "+d.Key, d.What, d.Why)
		list(w, "  comes back, and only decrypts", d.Back)
		list(w, "  does not come back", d.Refused)
	}
}
