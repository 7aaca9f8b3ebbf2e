package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

func (a *app) certCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Put, get, list, remove and import certificates",
	}
	cmd.AddCommand(a.certPutCommand(), a.certGetCommand(), a.certListCommand(), a.certRemoveCommand(),
		a.certImportCommand())
	return cmd
}

func (a *app) certPutCommand() *cobra.Command {
	var chain, key string
	var now, beside bool
	cmd := &cobra.Command{
		Use:   "put NAME[:rsa] --cert FILE [--key FILE]",
		Short: "Store a certificate; nodes that serve the name get it",
		Long: "Store a certificate. Nodes that serve the name get it: where it replaces another one, first one " +
			"node of each kind and version,\n" +
			"and the others of that kind when that one has accepted it (lockstepd's setting canary). With --now " +
			"every node gets it at once.\n" +
			"Without --key, the file of --cert holds the private key too, or it is a folder with both, such as " +
			"live/NAME of certbot.\n" +
			"NAME:rsa is the RSA certificate beside the ECDSA one of NAME, for clients that cannot do ECDSA.\n" +
			"With --beside NAME gets both, whichever comes first: the RSA one stands under NAME:rsa, and neither " +
			"replaces the other.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := keysource.CertName(args[0])
			if err != nil {
				return err
			}
			p, note, err := readPair(name, chain, key)
			if err != nil {
				return err
			}
			if note != "" {
				fmt.Fprintf(a.err, "note: %s\n", note)
			}
			cert, err := check(name, p)
			if err != nil {
				return fmt.Errorf("%s: %w", strings.Join(slices.DeleteFunc([]string{chain, key}, isEmpty), ", "), err)
			}
			for _, note := range cert.Notes {
				fmt.Fprintf(a.err, "note: %s\n", note)
			}
			// The PEM is in order, for any lockstepd.
			q := api.PutCert{Chain: cert.Chain, Key: cert.Key, Now: now, Beside: beside}
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				stored, err := c.PutCert(ctx, string(name), q)
				if unread := (*api.Error)(nil); beside && errors.As(err, &unread) && unread.Code == api.Usage {
					return fmt.Errorf("%w; lockstepd may be of a version that does not know --beside: upgrade it, or "+
						"put the RSA certificate under %s", err, name.Second())
				}
				if err != nil {
					return err
				}
				if stored.Same && !now {
					fmt.Fprintf(a.err, "%s has this certificate already: nothing was changed\n", stored.Name)
				}
				for _, warning := range stored.Warnings {
					fmt.Fprintf(a.err, "warning: %s\n", warning)
				}
				return show(a, stored, certTable)
			})
		},
	}
	cmd.Flags().StringVar(&chain, "cert", "", "PEM `file` with the chain, leaf first, or a folder")
	cmd.Flags().StringVar(&key, "key", "", "PEM `file` with the private key, if it is not in that of --cert")
	cmd.Flags().BoolVar(
		&now, "now", false, "every node gets it at once, without one that tries it first; also one that is stored "+
			"already")
	cmd.Flags().BoolVar(&beside, "beside", false, "RSA does not replace ECDSA, nor ECDSA RSA: the RSA one stands "+
		"under NAME:rsa")
	cmd.MarkFlagRequired("cert")
	return cmd
}

// maxPEMFile bounds what is read of a file. A file of this size is refused when it is parsed.
const maxPEMFile = 1<<20 + 1

// readPair reads a chain and its key. Without a key, chain is a file with both, or a folder. Of a
// folder with two certificates it reads the one of n, and the note names the other.
func readPair(n keysource.Name, chain, key string) (p keysource.PEM, note string, err error) {
	if fi, err := os.Stat(chain); err == nil && fi.IsDir() && key == "" {
		entries, err := os.ReadDir(chain)
		if err != nil {
			return p, "", err
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		files, other, err := filesOf(n, names)
		if err != nil {
			return p, "", fmt.Errorf("%s: %w", chain, err)
		}
		if other != "" {
			note = fmt.Sprintf("%s has the certificate of %s, too, which is put by itself (lockstep cert put %[2]s "+
				"--cert %[1]s)", chain, other)
		}
		if files.Key != "" {
			key = filepath.Join(chain, files.Key)
		}
		chain = filepath.Join(chain, files.Chain)
	}
	if p.Chain, err = readSome(chain); err != nil {
		return p, "", err
	}
	if key != "" {
		p.Key, err = readSome(key)
		if err == nil && len(p.Key) == 0 {
			err = fmt.Errorf("%s is empty", key)
		}
	}
	return p, note, err
}

// filesOf returns which files of a folder have the certificate of n. other is the name of a further
// one that is there.
func filesOf(n keysource.Name, names []string) (files layout.Files, other keysource.Name, err error) {
	for _, one := range layout.FindBoth(names) {
		if is := one.Mark == layout.RSA || one.Mark == "" && slices.ContainsFunc(names, func(f string) bool {
			return strings.Contains(f, ".ecdsa")
		}); is == n.IsSecond() {
			files = one.Files
		} else if other = n.Second(); n.IsSecond() {
			other = n.Host()
		}
	}
	if other == "" {
		files, err = layout.Find(names)
	}
	return files, other, err
}

func isEmpty(s string) bool { return s == "" }

func readSome(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPEMFile))
}

// check refuses what lockstepd would refuse. So a mistake is named before a private key is sent.
func check(n keysource.Name, p keysource.PEM) (keysource.Certificate, error) {
	c, err := keysource.ParseCertificate(p, time.Now())
	if err == nil {
		err = c.CheckName(n)
	}
	return c, err
}

func (a *app) certGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Show a certificate with its chain, never its key",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := keysource.CertName(args[0])
			if err != nil {
				return err
			}
			_, err = ask(a, cmd, func(c *api.Client, ctx context.Context) (api.Cert, error) {
				return c.Cert(ctx, string(name))
			}, certTable)
			return err
		},
	}
}

func (a *app) certRemoveCommand() *cobra.Command {
	var confirm bool
	cmd := &cobra.Command{
		Use:   "rm NAME | rm --confirm",
		Short: "Remove a certificate from the store; with --confirm, give up the names that are held back",
		Long: "Remove a certificate from the store. One in lockstepd's --certs directory is removed by removing " +
			"its folder.\n" +
			"When many names leave that directory at once, as when it is not mounted, they are held back: " +
			"--confirm gives them up.",
		Args: func(_ *cobra.Command, args []string) error {
			if confirm && len(args) > 0 || !confirm && len(args) != 1 {
				return errors.New("give either one NAME or --confirm")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
				if !confirm {
					name, err := keysource.CertName(args[0])
					if err != nil {
						return err
					}
					if err := c.RemoveCert(ctx, string(name)); err != nil {
						return err
					}
					fmt.Fprintf(a.err, "%s removed from the store\n", name)
					if name.IsSecond() {
						fmt.Fprintf(a.err, "warning: the session tickets of %s end where chains named both its "+
							"certificates; a chain of a bootstrap that names %s goes on with the last one, and gets a "+
							"stand-in when Envoy starts again: make it anew\n", name.Host(), name)
					}
					return nil
				}
				l, err := c.ConfirmLoss(ctx)
				if err != nil {
					return err
				}
				if l.Nothing {
					fmt.Fprintln(a.err, "no name is held back or lost: nothing was changed")
				} else {
					fmt.Fprintf(a.err, "%d names given up\n", len(l.Names))
				}
				return show(a, l, func(w io.Writer, l api.Losses) {
					for _, n := range l.Names {
						row(w, n)
					}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&confirm, "confirm", false, "give up every name that is held back")
	return cmd
}

// certTable ends with the chain in PEM, which other tools can read.
func certTable(w io.Writer, c api.Cert) {
	certsTable(w, api.Certs{Certs: []api.Cert{c}})
	if c.Fingerprint != "" {
		row(w, "SHA-256: "+c.Fingerprint)
	}
	if c.Chain != "" {
		fmt.Fprintf(w, "\n%s", c.Chain)
	}
}

func certsTable(w io.Writer, l api.Certs) {
	row(w, "NAME", "SOURCE", "EXPIRES", "VERSION", "ISSUER", "NOTE")
	for _, c := range l.Certs {
		expires := ""
		if !c.NotAfter.IsZero() {
			expires = c.NotAfter.Local().Format("2006-01-02 15:04")
		}
		var notes []string
		if c.Problem != "" {
			notes = append(notes, c.Problem)
		}
		if c.Held {
			notes = append(notes, "held back: gone from the directory")
		}
		if c.Shadowed {
			notes = append(notes, "not used: the directory has the name too")
		}
		for _, why := range c.Warnings {
			notes = append(notes, "warning: "+why)
		}
		notes = append(notes, c.Notes...)
		if len(c.Unserved) > 0 {
			notes = append(notes, "not served under its other names: "+keysource.FirstFew(c.Unserved))
		}
		row(w, c.Name, c.Source, expires, c.Version, c.Issuer, strings.Join(notes, "; "))
	}
}
