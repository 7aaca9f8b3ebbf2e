package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/place"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
)

// app is one run of the program. It has its streams and its global flags.
type app struct {
	in       *os.File
	out, err io.Writer

	dataDir, server, tokenFile string
	tlsCA, tlsCert, tlsKey     string
	format                     string
	timeout                    time.Duration

	// explicitDir reports whether --data-dir was given, by flag or variable.
	explicitDir bool
	limit       time.Duration // limit is that of the present command, for the words of a timeout.
	// running is set once the command line was understood. A later error is none of usage.
	running bool
}

func run(ctx context.Context, args []string, in *os.File, out, errs io.Writer) int {
	a := &app{in: in, out: out, err: plain{errs}}
	if f, ok := errs.(*os.File); ok && width(f) > 0 {
		a.err = terminal{plain{f}, f}
	}
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(cmd, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lockstep",
		Short: "Keep the TLS secrets of a fleet in step",
		Long: "lockstep shows and changes what lockstepd streams to its fleet: session ticket keys and " +
			"certificates.\n\n" +
			"Data goes to standard output, talk to standard error.\n" +
			"Exit codes: 0 done, 1 failed, 2 usage, 3 degraded, 4 not found, 5 refused or denied, 6 timed out.",
		Version:           version.Get().String(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.globals(cmd) },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.PersistentFlags()
	f.StringVar(&a.dataDir, "data-dir", "",
		"lockstepd's data directory: its address and token are read there (default /var/lib/lockstep; not as root: "+
			"$XDG_STATE_HOME/lockstep)")
	f.StringVar(&a.server, "server", "", "`URL` of lockstepd's admin address, instead of the one in --data-dir")
	f.StringVar(&a.tokenFile, "token-file", "",
		"`file` with a token of the admin API, instead of the one in --data-dir")
	f.StringVar(&a.tlsCA, "tls-ca", "", "PEM `file` with the CA of an https admin address (default: the system's)")
	f.StringVar(&a.tlsCert, "tls-cert", "", "PEM `file` with the client certificate for an https admin address")
	f.StringVar(&a.tlsKey, "tls-key", "", "PEM `file` with the key of --tls-cert")
	f.StringVarP(&a.format, "output", "o", "table", "`format`: table, json or yaml")
	f.DurationVar(&a.timeout, "timeout", 0, "how long to wait for the answer, or with --wait for the end (default "+
		"10s, with --wait 5m, verify 2m, cert import 2h)")
	f.VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + variable(f.Name) + "]" })
	root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"},
		cobra.ShellCompDirectiveNoFileComp))

	root.AddCommand(a.statusCommand(), a.nodesCommand(), a.nodeCommand(), a.eventsCommand(), a.watchCommand(),
		a.historyCommand(), a.planCommand(),
		a.rotateCommand(), a.rollbackCommand(), a.burnCommand(), a.excludeCommand(),
		a.verifyCommand(), a.auditCommand(), a.certCommand(), a.explainCommand(), a.hostCommand(), a.bootstrapCommand(),
		a.pkiCommand(), a.tokenCommand(), a.kekCommand(), a.backupCommand(), a.restoreCommand(), a.storeCommand())
	root.InitDefaultCompletionCmd()
	helpTopics(root)
	a.adopt(root)
	return root
}

// adopt makes every command note that it was reached. It makes every group of commands refuse a
// name that it does not have, for which cobra would show the help and succeed.
func (a *app) adopt(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.adopt(sub)
	}
	switch {
	case c.RunE != nil:
		do := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return do(cmd, args)
		}
	case c.HasParent() && c.HasSubCommands():
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usage("unknown command %q for %q", args[0], cmd.CommandPath())
		}
	}
}

// helpTopics makes help refuse a command that there is not, as that command line itself is refused.
func helpTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, _ := root.Find([]string{"help"})
	help.Run = nil
	help.RunE = func(_ *cobra.Command, args []string) error {
		found, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return usage("unknown help topic %q: lockstep help lists the commands", strings.Join(args, " "))
		}
		found.InitDefaultHelpFlag()
		return found.Help()
	}
}

// rootData is where lockstepd's data are looked for if there is no place of this user's own.
const rootData = "/var/lib/lockstep"

// variable returns the environment variable of a global flag.
func variable(flag string) string {
	return "LOCKSTEP_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// globals fills the global flags that were not given from the environment, and checks them.
func (a *app) globals(cmd *cobra.Command) error {
	var errs []error
	global := cmd.Root().PersistentFlags()
	global.VisitAll(func(f *pflag.Flag) {
		v, ok := os.LookupEnv(variable(f.Name))
		if f.Changed || !ok || v == "" {
			return
		}
		if err := global.Set(f.Name, v); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", variable(f.Name), v, err))
		}
	})
	a.explicitDir = a.dataDir != ""
	if !a.explicitDir {
		var err error
		if a.dataDir, err = place.Data(os.Geteuid(), os.Getenv); err != nil {
			a.dataDir = rootData
		}
	}
	switch {
	case a.format != "table" && a.format != "json" && a.format != "yaml":
		errs = append(errs, fmt.Errorf("-o %s: it must be table, json or yaml", a.format))
	case a.timeout < 0:
		errs = append(errs, fmt.Errorf("--timeout %s: it must not be negative", a.timeout))
	case (a.tlsCert == "") != (a.tlsKey == ""):
		errs = append(errs, errors.New("--tls-cert and --tls-key go together"))
	}
	return errors.Join(errs...)
}
