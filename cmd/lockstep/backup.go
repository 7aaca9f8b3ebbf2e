package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
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
		Use: "backup [--to FILE] --recipient AGE... | --passphrase-file FILE",
		Short: "Take an encrypted backup of all that is stored: certificates, rollouts with their keys, policies, " +
			"known names, the audit log",
		Long: "Take an encrypted backup (age) of all that is stored, from a running lockstepd, or from the data " +
			"directory of one that is stopped. It is\n" +
			"encrypted before it leaves lockstepd, and needs neither the sealing key nor the store to be " +
			"restored. It goes to standard output without --to.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if words != "" {
				var err error
				if q.Passphrase, err = a.passphrase(words); err != nil {
					return err
				}
			}
			// a mistake is named without lockstepd
			to, err := backup.Recipients(q.Recipients, q.Passphrase)
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
	f.StringArrayVar(&q.Recipients, "recipient", nil,
		"public `key` that can open it (age1…, from age-keygen); again for each")
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
		c, err := a.client()
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

// toFile writes a file whole or not at all. Only its owner can read it. An empty name is standard
// output.
func (a *app) toFile(name string, write func(io.Writer) error) error {
	if name == "" {
		if f, ok := a.out.(*os.File); ok && width(f) > 0 {
			return usage("standard output is a terminal: give --to FILE, or lead it elsewhere")
		}
		return write(a.out)
	}
	return atomicfile.WriteWith(name, 0o600, write)
}

// passphrase reads a passphrase from a file. Errors name the file and quote nothing of it.
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
		fmt.Fprintf(a.err, "warning: others can read %s in %s (mode %04o): chmod 600 it\n", what, f.Name(),
			st.Mode().Perm())
	}
}
