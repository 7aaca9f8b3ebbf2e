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
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// backupFor bounds a backup or restore of a large store.
const backupFor = 2 * time.Hour

func (a *app) backupCommand() *cobra.Command {
	var (
		q          api.BackupRequest
		out, words string
		o          offline
	)
	cmd := &cobra.Command{
		Use:   "backup [--to FILE] --recipient AGE... | --passphrase-file FILE",
		Short: "Take an encrypted backup of all that is stored: certificates, rollouts with their keys, policies, known names, the audit log",
		Long: "Take an encrypted backup (age) of all that is stored, from a running lockstepd, or from the data directory of one that is stopped. It is\n" +
			"encrypted before it leaves lockstepd, and needs neither the sealing key nor the store to be restored. It goes to standard output without -o.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if words != "" {
				var err error
				if q.Passphrase, err = a.passphrase(words); err != nil {
					return err
				}
			}
			to, err := backup.Recipients(q.Recipients, q.Passphrase) // what is wrong is said without lockstepd
			if err != nil {
				return exit{exitUsage, err}
			}
			ctx, cancel := a.within(cmd, backupFor)
			defer cancel()
			q.By = me()
			return a.toFile(out, func(w io.Writer) error { return a.takeBackup(ctx, w, o, q, to) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "to", "", "`file` to write, whole or not at all (default: standard output)")
	f.StringArrayVar(&q.Recipients, "recipient", nil, "public `key` that can open it (age1…, from age-keygen); again for each")
	f.StringVar(&words, "passphrase-file", "", "`file` whose first line is the passphrase that opens it")
	o.flags(cmd)
	return cmd
}

func (a *app) takeBackup(ctx context.Context, w io.Writer, o offline, q api.BackupRequest, to []age.Recipient) error {
	v, err := a.openOffline(ctx, o, false)
	if err != nil {
		return err
	}
	if v == nil {
		c, err := a.writer()
		if err != nil {
			return err
		}
		return c.Backup(ctx, q, w)
	}
	n, err := backup.Take(ctx, w, to, v)
	if err = errors.Join(err, v.Close()); err == nil {
		fmt.Fprintf(a.err, "%d records\n", n)
	}
	return err
}

// toFile writes a file whole or not at all, readable by its owner only; "" is standard output.
func (a *app) toFile(name string, write func(io.Writer) error) error {
	if name == "" {
		if f, ok := a.out.(*os.File); ok && width(f) > 0 {
			return usage("standard output is a terminal: give --to FILE, or lead it elsewhere")
		}
		return write(a.out)
	}
	return atomicfile.WriteWith(name, 0o600, write)
}

// passphrase reads one from a file. Errors name the file and hold nothing of what is in it.
func (a *app) passphrase(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	a.warnIfOpen(f, "the passphrase")
	p, err := backup.Passphrase(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

func (a *app) warnIfOpen(f *os.File, what string) {
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(a.err, "warning: others can read %s in %s (mode %04o): chmod 600 it\n", what, f.Name(), st.Mode().Perm())
	}
}

func (a *app) restoreCommand() *cobra.Command {
	var (
		identity, words string
		plan            bool
		o               offline
	)
	cmd := &cobra.Command{
		Use:   "restore FILE --identity FILE | --passphrase-file FILE",
		Short: "Bring a backup back, into a running lockstepd or into the data directory of one that is stopped",
		Long: "Bring a backup back. Its certificates replace those in the store, and nothing is removed. Ticket keys come back behind those in use, and only\n" +
			"decrypt; burnt ones never do, and generations never go back. The whole file is checked before anything is written.\n" +
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
			return a.show(r, func(w io.Writer) { restoredTable(w, r) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&identity, "identity", "", "`file` with the secret key that opens it (age-keygen)")
	f.StringVar(&words, "passphrase-file", "", "`file` whose first line is the passphrase that opens it")
	f.BoolVar(&plan, "plan", false, "say what would change, and change nothing")
	cmd.MarkFlagsMutuallyExclusive("identity", "passphrase-file")
	cmd.MarkFlagsOneRequired("identity", "passphrase-file")
	o.flags(cmd)
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

// restorer is what takes the inner text of a backup.
type restorer func(text io.Reader, plan bool) (api.Restored, error)

func (a *app) restorer(ctx context.Context, o offline) (put restorer, done func() error, err error) {
	v, err := a.openOffline(ctx, o, true)
	if err != nil {
		return nil, nil, err
	}
	if v != nil {
		log, err := audit.New(audit.Config{Records: storesink.New(v), Replica: "offline-restore", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, nil, errors.Join(err, v.Close())
		}
		return func(text io.Reader, plan bool) (api.Restored, error) {
			return restoreInto(ctx, v, log, stores.IsURL(o.store), text, plan)
		}, func() error { return errors.Join(log.Close(), v.Close()) }, nil
	}
	c, err := a.writer()
	if err != nil {
		return nil, nil, err
	}
	return func(text io.Reader, plan bool) (api.Restored, error) {
		return c.Restore(ctx, text, plan, me())
	}, func() error { return nil }, nil
}

// restoreFile reads the file to its end for a plan first, so that whatever is wrong with it is found before anything is written.
func restoreFile(f *os.File, ids []age.Identity, put restorer, plan bool) (r api.Restored, err error) {
	for _, plan := range []bool{true, plan} {
		if r.Plan && plan {
			break // that was it
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
			if noted.err != nil { // it is why the other end gave up
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

// noting remembers what went wrong with reading.
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
